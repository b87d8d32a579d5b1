#include "connectors/objectstore/listing.h"

#include "connectors/objectstore/sign.h"
#include "core/clock.h"

#define SCRATCH_SIZE_MAX (4u * MR_OBJECT_KEY_SIZE_MAX)

void mr__object_init(struct mr_object *object)
{
    *object = (struct mr_object){0};
    mr_buf_init(&object->key, MR_OBJECT_KEY_SIZE_MAX);
    mr_buf_init(&object->etag, MR_OBJECT_ETAG_SIZE_MAX);
}

void mr__object_release(struct mr_object *object)
{
    mr_buf_release(&object->key);
    mr_buf_release(&object->etag);
}

enum mr_status mr__object_copy(struct mr_object *to, const struct mr_object *from)
{
    mr_buf_clear(&to->key);
    mr_buf_clear(&to->etag);
    to->size = from->size;
    to->modified_ns = from->modified_ns;
    enum mr_status r = mr_buf_append_bytes(&to->key, mr_buf_bytes(&from->key));
    return r == MR_OK ? mr_buf_append_bytes(&to->etag, mr_buf_bytes(&from->etag)) : r;
}

void mr__listing_init(struct mr_listing *listing)
{
    *listing = (struct mr_listing){0};
    mr_buf_init(&listing->scratch, SCRATCH_SIZE_MAX);
    mr__xml_init(&listing->xml, mr_bytes(NULL, 0));
}

void mr__listing_release(struct mr_listing *listing)
{
    mr_buf_release(&listing->scratch);
}

static enum mr_status fail(struct mr_listing *listing, enum mr_status r,
                           struct mr_problem *problem)
{
    if (r == MR_E_NOMEM) {
        return mr_problem_set(problem, r, "no memory for the listing");
    }
    return mr_problem_set(problem, MR_E_INVALID, "the listing cannot be read: %s",
                          listing->xml.fault != NULL ? listing->xml.fault
                          : r == MR_E_TOO_BIG        ? "a key or tag is too long"
                                                     : "a field has no meaning");
}

/* The element's text into scratch. */
static enum mr_status take_text(struct mr_listing *listing)
{
    mr_buf_clear(&listing->scratch);
    return mr__xml_content(&listing->xml, &listing->scratch);
}

static bool scratch_is(const struct mr_listing *listing, const char *text)
{
    return mr_bytes_equal_nocase(mr_buf_bytes(&listing->scratch), mr_bytes_of(text));
}

/* A child of the root, other than an object. */
static enum mr_status take_head(struct mr_listing *listing)
{
    struct mr_xml *xml = &listing->xml;
    enum mr_status r = MR_OK;
    if (mr__xml_is(xml, "IsTruncated")) {
        r = take_text(listing);
        listing->is_truncated = scratch_is(listing, "true");
    } else if (mr__xml_is(xml, "EncodingType")) {
        r = take_text(listing);
        listing->is_encoded = scratch_is(listing, "url");
    }
    return r;
}

enum mr_status mr__listing_open(struct mr_listing *listing, struct mr_bytes page,
                                struct mr_problem *problem)
{
    struct mr_xml *xml = &listing->xml;
    enum mr_status r = MR_OK;
    enum mr_xml_token token;
    listing->is_truncated = false;
    listing->is_encoded = false;
    mr__xml_init(xml, page);
    while (r == MR_OK && (token = mr__xml_next(xml)) != MR_XML_END) {
        if (token == MR_XML_FAULT) {
            r = MR_E_INVALID;
        } else if (token == MR_XML_OPEN && xml->depth == 1) {
            r = mr__xml_is(xml, "ListBucketResult") ? MR_OK : MR_E_INVALID;
            xml->fault = r == MR_OK ? NULL : "it is no ListBucketResult";
        } else if (token == MR_XML_OPEN && xml->depth == 2) {
            r = take_head(listing);
        }
    }
    if (r != MR_OK) {
        return fail(listing, r, problem);
    }
    mr__xml_init(xml, page);
    return MR_OK;
}

static enum mr_status take_key(struct mr_listing *listing, struct mr_object *object)
{
    enum mr_status r = take_text(listing);
    mr_buf_clear(&object->key);
    if (r != MR_OK) {
        return r;
    }
    return listing->is_encoded ? mr__uri_decode(&object->key, mr_buf_bytes(&listing->scratch))
                               : mr_buf_append_bytes(&object->key, mr_buf_bytes(&listing->scratch));
}

static enum mr_status take_etag(struct mr_listing *listing, struct mr_object *object)
{
    enum mr_status r = take_text(listing);
    struct mr_bytes text = mr_buf_bytes(&listing->scratch);
    if (text.size >= 2 && text.data[0] == '"' && text.data[text.size - 1] == '"') {
        text = mr_bytes(text.data + 1, text.size - 2);
    }
    mr_buf_clear(&object->etag);
    return r == MR_OK ? mr_buf_append_bytes(&object->etag, text) : r;
}

static enum mr_status take_field(struct mr_listing *listing, struct mr_object *object)
{
    struct mr_xml *xml = &listing->xml;
    enum mr_status r = MR_OK;
    if (mr__xml_is(xml, "Key")) {
        return take_key(listing, object);
    }
    if (mr__xml_is(xml, "ETag")) {
        return take_etag(listing, object);
    }
    if (mr__xml_is(xml, "Size")) {
        r = take_text(listing);
        if (r == MR_OK && !mr_parse_u64(mr_buf_bytes(&listing->scratch), &object->size)) {
            xml->fault = "a Size is no number";
            r = MR_E_INVALID;
        }
    } else if (mr__xml_is(xml, "LastModified")) {
        r = take_text(listing);
        if (r == MR_OK &&
            !mr_time_parse(mr_buf_bytes(&listing->scratch), &object->modified_ns)) {
            xml->fault = "a LastModified is no time";
            r = MR_E_INVALID;
        }
    }
    return r;
}

enum mr_status mr__listing_next(struct mr_listing *listing, struct mr_object *object,
                                struct mr_problem *problem)
{
    struct mr_xml *xml = &listing->xml;
    bool within = false;
    enum mr_status r = MR_OK;
    while (r == MR_OK) {
        enum mr_xml_token token = mr__xml_next(xml);
        if (token == MR_XML_END) {
            return MR_E_NOT_FOUND;
        }
        if (token == MR_XML_FAULT) {
            r = MR_E_INVALID;
        } else if (token == MR_XML_OPEN && xml->depth == 2 && mr__xml_is(xml, "Contents")) {
            within = true;
            object->size = 0;
            object->modified_ns = 0;
            mr_buf_clear(&object->key);
            mr_buf_clear(&object->etag);
        } else if (token == MR_XML_OPEN && within && xml->depth == 3) {
            r = take_field(listing, object);
        } else if (token == MR_XML_CLOSE && within && xml->depth == 1) {
            xml->fault = object->key.size == 0 ? "an object has no Key" : NULL;
            r = xml->fault != NULL ? MR_E_INVALID : MR_OK;
            if (r == MR_OK) {
                return MR_OK;
            }
        }
    }
    return fail(listing, r, problem);
}

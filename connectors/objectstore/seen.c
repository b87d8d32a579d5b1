#include "connectors/objectstore/seen.h"

#include "core/assert.h"
#include "core/hash.h"

static const uint8_t magic[8] = "MRSEEN1\n";

enum { KIND_OBJECT = 1, KIND_END = 2 };

#define RECORD_SIZE_MAX (MR_SEEN_RECORD_SIZE + MR_OBJECT_KEY_SIZE_MAX + MR_OBJECT_ETAG_SIZE_MAX)
_Static_assert(RECORD_SIZE_MAX < MR_SEEN_BUFFER_SIZE, "a record fits the buffer");
_Static_assert(MR_OBJECT_ETAG_SIZE_MAX < 256, "an etag's size is one byte");

/* --- probe ------------------------------------------------------------------------------------ */

static enum mr_status read_exactly(struct mr_io *io, int file, uint8_t *to, size_t size,
                                   uint64_t at)
{
    size_t got = 0;
    enum mr_status r = io->ops->pread(io, file, to, size, at, &got);
    return r == MR_OK && got < size ? MR_E_CORRUPT : r;
}

static bool is_end(const uint8_t record[MR_SEEN_RECORD_SIZE])
{
    return record[7] == KIND_END && mr_get_u16(record + 4) == 0 && record[6] == 0 &&
           mr_get_u32(record) == mr_crc32c(0, record + 4, MR_SEEN_RECORD_SIZE - 4);
}

static enum mr_status probe_file(struct mr_io *io, int file, struct mr_seen_head *ret_head)
{
    uint8_t head[MR_SEEN_HEADER_SIZE];
    uint8_t end[MR_SEEN_RECORD_SIZE];
    uint64_t size = 0;
    enum mr_status r = io->ops->size(io, file, &size);
    r = r == MR_OK ? read_exactly(io, file, head, sizeof(head), 0) : r;
    if (r != MR_OK) {
        return r;
    }
    if (memcmp(head, magic, sizeof(magic)) != 0) {
        return MR_E_CORRUPT;
    }
    *ret_head = (struct mr_seen_head){.pass = mr_get_u64(head + 8), .of = mr_get_u64(head + 16)};
    if (size >= sizeof(head) + sizeof(end)) {
        r = read_exactly(io, file, end, sizeof(end), size - sizeof(end));
        ret_head->is_whole = r == MR_OK && is_end(end);
        ret_head->count = ret_head->is_whole ? mr_get_u64(end + 8) : 0;
    }
    return r;
}

enum mr_status mr__seen_probe(struct mr_io *io, const char *name, struct mr_seen_head *ret_head)
{
    int file;
    enum mr_status r = io->ops->open(io, name, MR_IO_READ_ONLY, &file);
    if (r != MR_OK) {
        return r;
    }
    r = probe_file(io, file, ret_head);
    io->ops->close(io, file);
    return r;
}

/* --- reader ----------------------------------------------------------------------------------- */

void mr__seen_reader_init(struct mr_seen_reader *reader)
{
    *reader = (struct mr_seen_reader){.file = -1};
    mr_buf_init(&reader->buffer, MR_SEEN_BUFFER_SIZE);
}

void mr__seen_reader_release(struct mr_seen_reader *reader)
{
    if (reader->file >= 0) {
        reader->io->ops->close(reader->io, reader->file);
        reader->file = -1;
    }
    mr_buf_release(&reader->buffer);
}

enum mr_status mr__seen_reader_open(struct mr_seen_reader *reader, struct mr_io *io,
                                    const char *name, uint64_t at)
{
    MR_ASSERT(reader->file < 0);
    reader->io = io;
    reader->at = at;
    reader->buffer_at = at;
    mr_buf_clear(&reader->buffer);
    return io->ops->open(io, name, MR_IO_READ_ONLY, &reader->file);
}

/* Makes the @p size bytes at reader->at lie in the buffer. @return MR_E_CORRUPT: the file ends */
static enum mr_status need(struct mr_seen_reader *reader, size_t size)
{
    struct mr_buf *buffer = &reader->buffer;
    size_t used = (size_t)(reader->at - reader->buffer_at);
    if (buffer->size - used >= size) {
        return MR_OK;
    }
    if (used > 0) {
        memmove(buffer->data, buffer->data + used, buffer->size - used);
        buffer->size -= used;
        reader->buffer_at = reader->at;
    }
    size_t room = MR_SEEN_BUFFER_SIZE - buffer->size;
    size_t got = 0;
    enum mr_status r = mr_buf_reserve(buffer, room);
    r = r == MR_OK ? reader->io->ops->pread(reader->io, reader->file, buffer->data + buffer->size,
                                            room, reader->buffer_at + buffer->size, &got)
                   : r;
    buffer->size += r == MR_OK ? got : 0;
    return r == MR_OK && buffer->size < size ? MR_E_CORRUPT : r;
}

static const uint8_t *record_at(const struct mr_seen_reader *reader)
{
    return reader->buffer.data + (reader->at - reader->buffer_at);
}

enum mr_status mr__seen_reader_next(struct mr_seen_reader *reader, struct mr_object *object)
{
    enum mr_status r = need(reader, MR_SEEN_RECORD_SIZE);
    if (r != MR_OK) {
        return r;
    }
    const uint8_t *record = record_at(reader);
    if (is_end(record)) {
        return MR_E_NOT_FOUND;
    }
    size_t key_size = mr_get_u16(record + 4);
    size_t etag_size = record[6];
    size_t size = MR_SEEN_RECORD_SIZE + key_size + etag_size;
    if (record[7] != KIND_OBJECT || key_size == 0 || key_size > MR_OBJECT_KEY_SIZE_MAX ||
        etag_size > MR_OBJECT_ETAG_SIZE_MAX) {
        return MR_E_CORRUPT;
    }
    r = need(reader, size);
    if (r != MR_OK) {
        return r;
    }
    record = record_at(reader);
    if (mr_get_u32(record) != mr_crc32c(0, record + 4, size - 4)) {
        return MR_E_CORRUPT;
    }
    mr_buf_clear(&object->key);
    mr_buf_clear(&object->etag);
    object->size = mr_get_u64(record + 8);
    object->modified_ns = (int64_t)mr_get_u64(record + 16);
    r = mr_buf_append(&object->key, record + MR_SEEN_RECORD_SIZE, key_size);
    r = r == MR_OK ? mr_buf_append(&object->etag, record + MR_SEEN_RECORD_SIZE + key_size,
                                   etag_size)
                   : r;
    reader->at += r == MR_OK ? size : 0;
    return r;
}

/* --- writer ----------------------------------------------------------------------------------- */

void mr__seen_writer_init(struct mr_seen_writer *writer)
{
    *writer = (struct mr_seen_writer){.file = -1};
    mr_buf_init(&writer->buffer, MR_SEEN_BUFFER_SIZE);
}

void mr__seen_writer_release(struct mr_seen_writer *writer)
{
    if (writer->file >= 0) {
        writer->io->ops->close(writer->io, writer->file);
        writer->file = -1;
    }
    mr_buf_release(&writer->buffer);
}

static enum mr_status flush(struct mr_seen_writer *writer)
{
    struct mr_buf *buffer = &writer->buffer;
    enum mr_status r = MR_OK;
    if (buffer->size > 0) {
        r = writer->io->ops->pwrite(writer->io, writer->file, buffer->data, buffer->size,
                                    writer->at - buffer->size);
    }
    if (r == MR_OK) {
        mr_buf_clear(buffer);
    }
    return r;
}

static enum mr_status begin(struct mr_seen_writer *writer, uint64_t pass, uint64_t of)
{
    uint8_t head[MR_SEEN_HEADER_SIZE];
    memcpy(head, magic, sizeof(magic));
    mr_put_u64(head + 8, pass);
    mr_put_u64(head + 16, of);
    writer->at = sizeof(head);
    enum mr_status r = writer->io->ops->truncate(writer->io, writer->file, 0);
    return r == MR_OK ? mr_buf_append(&writer->buffer, head, sizeof(head)) : r;
}

enum mr_status mr__seen_writer_open(struct mr_seen_writer *writer, struct mr_io *io,
                                    const char *name, uint64_t at, uint64_t pass, uint64_t of)
{
    MR_ASSERT(writer->file < 0);
    uint64_t size = 0;
    writer->io = io;
    mr_buf_clear(&writer->buffer);
    enum mr_status r = io->ops->open(io, name, MR_IO_WRITE | (at == 0 ? MR_IO_CREATE : 0u),
                                     &writer->file);
    if (r != MR_OK) {
        writer->file = -1;
        return r;
    }
    if (at == 0) {
        r = begin(writer, pass, of);
    } else {
        writer->at = at;
        r = io->ops->size(io, writer->file, &size);
        r = r == MR_OK && size < at ? MR_E_NOT_FOUND : r;
        r = r == MR_OK ? io->ops->truncate(io, writer->file, at) : r;
    }
    if (r != MR_OK) {
        mr__seen_writer_release(writer);
    }
    return r;
}

static enum mr_status add_record(struct mr_seen_writer *writer, uint8_t kind,
                                 const struct mr_object *object, uint64_t size)
{
    uint8_t record[RECORD_SIZE_MAX] = {0};
    size_t key_size = object == NULL ? 0 : object->key.size;
    size_t etag_size = object == NULL ? 0 : object->etag.size;
    size_t whole = MR_SEEN_RECORD_SIZE + key_size + etag_size;
    MR_ASSERT(whole <= sizeof(record));
    if (writer->buffer.size + whole > MR_SEEN_BUFFER_SIZE) {
        enum mr_status r = flush(writer);
        if (r != MR_OK) {
            return r;
        }
    }
    mr_put_u16(record + 4, (uint16_t)key_size);
    record[6] = (uint8_t)etag_size;
    record[7] = kind;
    mr_put_u64(record + 8, size);
    if (object != NULL) {
        mr_put_u64(record + 16, (uint64_t)object->modified_ns);
        memcpy(record + MR_SEEN_RECORD_SIZE, object->key.data, key_size);
        if (etag_size > 0) {
            memcpy(record + MR_SEEN_RECORD_SIZE + key_size, object->etag.data, etag_size);
        }
    }
    mr_put_u32(record, mr_crc32c(0, record + 4, whole - 4));
    enum mr_status r = mr_buf_append(&writer->buffer, record, whole);
    writer->at += r == MR_OK ? whole : 0;
    return r;
}

enum mr_status mr__seen_writer_add(struct mr_seen_writer *writer, const struct mr_object *object)
{
    MR_ASSERT(object->key.size > 0);
    return add_record(writer, KIND_OBJECT, object, object->size);
}

enum mr_status mr__seen_writer_sync(struct mr_seen_writer *writer)
{
    enum mr_status r = flush(writer);
    return r == MR_OK ? writer->io->ops->sync(writer->io, writer->file) : r;
}

enum mr_status mr__seen_writer_finish(struct mr_seen_writer *writer, uint64_t count)
{
    enum mr_status r = add_record(writer, KIND_END, NULL, count);
    r = r == MR_OK ? mr__seen_writer_sync(writer) : r;
    r = r == MR_OK ? writer->io->ops->sync_dir(writer->io) : r;
    if (r == MR_OK) {
        mr__seen_writer_release(writer);
    }
    return r;
}

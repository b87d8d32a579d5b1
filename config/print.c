#include "config/print.h"

static enum mr_status print_text(const struct mr_config_error *error, struct mr_buf *out)
{
    enum mr_status r = mr_buf_append_text(out, error->file);
    if (r == MR_OK && error->line > 0) {
        r = mr_buf_printf(out, ":%u:%u", error->line, error->column);
    }
    if (r == MR_OK) {
        r = mr_buf_printf(out, "%s%s\n", error->file[0] == '\0' ? "" : ": ", error->text);
    }
    return r;
}

static enum mr_status print_json(const struct mr_config_error *error, struct mr_buf *out)
{
    enum mr_status r = mr_buf_append_text(out, "{\"file\":");
    if (r == MR_OK) {
        r = mr_buf_append_json(out, mr_bytes_of(error->file));
    }
    if (r == MR_OK) {
        r = mr_buf_printf(out, ",\"line\":%u,\"column\":%u,\"error\":", error->line,
                          error->column);
    }
    if (r == MR_OK) {
        r = mr_buf_append_json(out, mr_bytes_of(error->text));
    }
    return r == MR_OK ? mr_buf_append_text(out, "}\n") : r;
}

enum mr_status mr_config_errors_print(const struct mr_config_errors *errors, struct mr_buf *out,
                                      bool json)
{
    enum mr_status r = MR_OK;
    for (uint32_t i = 0; i < errors->count && r == MR_OK; i++) {
        r = json ? print_json(&errors->items[i], out) : print_text(&errors->items[i], out);
    }
    if (r == MR_OK && errors->more) {
        r = mr_buf_append_text(out, json ? "{\"file\":\"\",\"line\":0,\"column\":0,\"error\":"
                                           "\"there are more errors\"}\n"
                                         : "there are more errors\n");
    }
    return r;
}

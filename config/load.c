/* Owns the files of a configuration: which ones, reading them, and the steps of a load. */
#include "config/config.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/loader.h"
#include "config/merge.h"
#include "config/option_value.h"
#include "core/alloc.h"
#include "core/assert.h"
#include "core/io.h"

/* A load from start to end; everything in it is released by finish_load(). */
struct load {
    struct mr_loader loader;
    struct mr_node *root;
    char *path;   /* owned, absolute */
    char *folder; /* owned, absolute */
    uint64_t size; /* of all files so far */
    bool is_broken; /* a file could not be read: what refers to it would be reported falsely */
};

static enum mr_status begin_load(struct load *load, const struct mr_config_kinds *kinds,
                                 struct mr_config_errors *errors)
{
    *errors = (struct mr_config_errors){0};
    memset(load, 0, sizeof(*load));
    load->loader.errors = errors;
    load->loader.kinds = kinds;
    mr__tree_init(&load->loader.tree);
    load->root = mr__tree_node(&load->loader.tree, MR_NODE_MAPPING);
    return load->root == NULL ? MR_E_NOMEM : MR_OK;
}

static void finish_load(struct load *load)
{
    mr__tree_release(&load->loader.tree);
    mr_free(load->path);
    mr_free(load->folder);
}

static enum mr_status add_file(struct load *load, const char *name, uint16_t *ret_file)
{
    struct mr_tree *tree = &load->loader.tree;
    MR_ASSERT(tree->file_count < MR_CONFIG_FILES_MAX);
    const char *copy = mr__tree_text(tree, mr_bytes_of(name));
    if (copy == NULL) {
        return MR_E_NOMEM;
    }
    *ret_file = (uint16_t)tree->file_count;
    tree->files[tree->file_count++] = copy;
    return MR_OK;
}

/* One document into the tree. */
static enum mr_status take_text(struct load *load, const char *name, struct mr_bytes text)
{
    uint16_t file;
    enum mr_status r = add_file(load, name, &file);
    if (r != MR_OK) {
        return r;
    }
    struct mr_node *document = NULL;
    struct mr_node_place place = {0};
    struct mr_problem problem;
    r = mr__tree_read(&load->loader.tree, file, text, &document, &place, &problem);
    if (r == MR_E_INVALID) {
        load->is_broken = true;
        return mr__report_at(&load->loader, name, place.line, place.column, problem.text);
    }
    if (r == MR_OK) {
        r = mr__check_twice(&load->loader);
    }
    if (r != MR_OK || document == NULL || mr__node_is_null(document)) {
        return r;
    }
    if (document->kind != MR_NODE_MAPPING) {
        load->is_broken = true;
        return mr__report(&load->loader, document,
                          "a configuration is a mapping of settings, such as `data_dir: ./data`");
    }
    mr__merge(load->root, document);
    return MR_OK;
}

static enum mr_status build(struct load *load, struct mr_config **ret_config)
{
    struct mr_config *config = NULL;
    enum mr_status r = mr__check_merged(&load->loader, load->root);
    load->loader.folder = load->folder;
    if (r == MR_OK && !load->is_broken) {
        r = mr__config_build(&load->loader, load->root, &config);
    }
    if (r != MR_OK) {
        return r;
    }
    if (config == NULL) {
        mr__errors_sort(load->loader.errors);
        return MR_E_INVALID;
    }
    config->path = MR_TAKE(load->path);
    config->folder = MR_TAKE(load->folder);
    *ret_config = config;
    return MR_OK;
}

/* --- files ------------------------------------------------------------------------------------ */

static enum mr_status report_file(struct load *load, const char *name, enum mr_status status)
{
    const char *text = status == MR_E_TOO_BIG
                           ? "the configuration is larger than 8MiB"
                           : mr_status_text(status);
    enum mr_status r = mr__report_at(&load->loader, name, 0, 0, text);
    return r == MR_OK ? status : r;
}

static enum mr_status take_file(struct load *load, const char *path)
{
    char *text = NULL;
    size_t size = 0;
    enum mr_status r = mr_file_read(path, MR_CONFIG_SIZE_MAX, &text, &size);
    if (r == MR_OK) {
        load->size += size;
        r = load->size > MR_CONFIG_SIZE_MAX ? MR_E_TOO_BIG
                                            : take_text(load, path, mr_bytes(text, size));
        explicit_bzero(text, size);
        mr_free(text);
    }
    return r == MR_OK || r == MR_E_NOMEM ? r : report_file(load, path, r);
}

static bool is_fragment_name(const char *name)
{
    struct mr_bytes text = mr_bytes_of(name);
    return name[0] != '.' && (mr_bytes_ends(text, MR_BYTES_LITERAL(".yaml")) ||
                              mr_bytes_ends(text, MR_BYTES_LITERAL(".yml")) ||
                              mr_bytes_ends(text, MR_BYTES_LITERAL(".json")));
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum mr_status list_fragments(const char *path, struct mr_strings *names)
{
    DIR *folder = opendir(path);
    if (folder == NULL) {
        return mr_status_from_errno(errno);
    }
    enum mr_status r = MR_OK;
    const struct dirent *entry;
    while (r == MR_OK && (entry = readdir(folder)) != NULL) {
        if (!is_fragment_name(entry->d_name)) {
            continue;
        }
        struct mr_buf buf;
        mr_buf_init(&buf, 2u * PATH_MAX);
        size_t size = strlen(path);
        r = mr_buf_printf(&buf, "%s%s%s", path, size > 0 && path[size - 1] == '/' ? "" : "/",
                          entry->d_name);
        char *name = r == MR_OK ? mr_buf_take_text(&buf) : NULL;
        struct stat info;
        if (name == NULL) {
            r = r == MR_OK ? MR_E_NOMEM : r;
        } else if (stat(name, &info) != 0 || !S_ISDIR(info.st_mode)) {
            r = names->count == MR_CONFIG_FILES_MAX ? MR_E_TOO_BIG : mr__strings_add(names, name);
        }
        mr_free(name);
        mr_buf_release(&buf);
    }
    closedir(folder);
    if (r == MR_OK && names->count > 1) {
        qsort(names->items, names->count, sizeof(*names->items), compare_texts);
    }
    return r;
}

static enum mr_status take_folder(struct load *load, const char *path)
{
    struct mr_strings names = {0};
    enum mr_status r = list_fragments(path, &names);
    if (r != MR_OK && r != MR_E_NOMEM) {
        enum mr_status reported = mr__report_at(
            &load->loader, path, 0, 0,
            r == MR_E_TOO_BIG ? "the folder holds more than 1024 files" : mr_status_text(r));
        r = reported == MR_OK ? r : reported;
    }
    if (r == MR_OK && names.count == 0) {
        load->is_broken = true;
        r = mr__report_at(&load->loader, path, 0, 0,
                          "the folder holds no *.yaml, *.yml or *.json file");
    }
    for (uint32_t i = 0; i < names.count && r == MR_OK; i++) {
        r = take_file(load, names.items[i]);
    }
    mr__strings_release(&names);
    return r;
}

/* The working directory as an absolute path, or NULL with the status. */
static enum mr_status find_absolute(const char *path, char **ret_path)
{
    char here[PATH_MAX] = "/";
    if (path[0] != '/' && getcwd(here, sizeof(here)) == NULL) {
        return mr_status_from_errno(errno);
    }
    char *absolute = mr__path_absolute(here, path);
    if (absolute == NULL) {
        return MR_E_NOMEM;
    }
    *ret_path = absolute;
    return MR_OK;
}

static enum mr_status parent_of(const char *path, char **ret_folder)
{
    const char *slash = strrchr(path, '/');
    MR_ASSERT(slash != NULL);
    *ret_folder = slash == path ? mr_strdup("/") : mr_strndup(path, (size_t)(slash - path));
    return *ret_folder == NULL ? MR_E_NOMEM : MR_OK;
}

static enum mr_status take_path(struct load *load, const char *path)
{
    struct stat info;
    enum mr_status r = find_absolute(path, &load->path);
    if (r != MR_OK) {
        return r;
    }
    if (stat(path, &info) != 0) {
        return report_file(load, path, mr_status_from_errno(errno));
    }
    if (S_ISDIR(info.st_mode)) {
        load->folder = mr_strdup(load->path);
        return load->folder == NULL ? MR_E_NOMEM : take_folder(load, path);
    }
    r = parent_of(load->path, &load->folder);
    return r == MR_OK ? take_file(load, path) : r;
}

enum mr_status mr_config_load_with(const char *path, const char *name, struct mr_bytes text,
                                   const struct mr_config_kinds *kinds,
                                   struct mr_config **ret_config, struct mr_config_errors *errors)
{
    struct load load;
    enum mr_status r = begin_load(&load, kinds, errors);
    if (r == MR_OK) {
        r = take_path(&load, path);
    }
    if (r == MR_OK && text.size > 0) {
        r = load.loader.tree.file_count == MR_CONFIG_FILES_MAX ? MR_E_TOO_BIG
                                                               : take_text(&load, name, text);
    }
    if (r == MR_OK) {
        r = build(&load, ret_config);
    }
    finish_load(&load);
    return r;
}

enum mr_status mr_config_load(const char *path, const struct mr_config_kinds *kinds,
                              struct mr_config **ret_config, struct mr_config_errors *errors)
{
    return mr_config_load_with(path, "", mr_bytes(NULL, 0), kinds, ret_config, errors);
}

enum mr_status mr_config_load_text(const char *name, const char *folder, struct mr_bytes text,
                                   const struct mr_config_kinds *kinds,
                                   struct mr_config **ret_config, struct mr_config_errors *errors)
{
    struct load load;
    enum mr_status r = begin_load(&load, kinds, errors);
    if (r == MR_OK) {
        r = find_absolute(folder, &load.folder);
    }
    if (r == MR_OK) {
        load.path = mr__path_absolute(load.folder, name);
        r = load.path == NULL ? MR_E_NOMEM : MR_OK;
    }
    if (r == MR_OK && text.size > MR_CONFIG_SIZE_MAX) {
        r = report_file(&load, name, MR_E_TOO_BIG);
    }
    if (r == MR_OK) {
        r = take_text(&load, name, text);
    }
    if (r == MR_OK) {
        r = build(&load, ret_config);
    }
    finish_load(&load);
    return r;
}

#include <dlfcn.h>
#include <unistd.h>

#include "core/logger.h"
#include "workers/native/internal.h"

#define ENTRY "millrace_native_plugin"

static enum mr_status check_ops(const struct millrace_native_plugin *ops, const char *path,
                                struct mr_problem *problem)
{
    if (ops == NULL) {
        return mr_problem_set(problem, MR_E_INVALID, "%s: " ENTRY "() returned NULL", path);
    }
    if (ops->abi != MILLRACE_NATIVE_ABI) {
        return mr_problem_set(problem, MR_E_UNSUPPORTED,
                              "%s is made for version %u of the plugin interface, this is %u", path,
                              ops->abi, MILLRACE_NATIVE_ABI);
    }
    if (ops->size < sizeof(*ops) || ops->handle == NULL) {
        return mr_problem_set(problem, MR_E_INVALID, "%s: its struct is too small or has no handle",
                              path);
    }
    return MR_OK;
}

enum mr_status mr__plugin_load(struct mr__plugin *plugin, const char *path, const char *settings,
                               struct mr_problem *problem)
{
    *plugin = (struct mr__plugin){0};
    if (access(path, R_OK) != 0) {
        return mr_problem_set(problem, MR_E_NOT_FOUND, "cannot read the plugin %s", path);
    }
    plugin->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (plugin->library == NULL) {
        return mr_problem_set(problem, MR_E_INVALID, "cannot load the plugin: %s", dlerror());
    }
    /* POSIX wants a data pointer to become a function's; C has no cast for it. */
    const struct millrace_native_plugin *(*entry)(void) = NULL;
    void *symbol = dlsym(plugin->library, ENTRY);
    memcpy(&entry, &symbol, sizeof(entry));
    enum mr_status r =
        entry == NULL ? mr_problem_set(problem, MR_E_INVALID, "%s exports no " ENTRY "()", path)
                      : check_ops(entry(), path, problem);
    char error[256] = "";
    if (r == MR_OK) {
        plugin->ops = entry();
        if (plugin->ops->open != NULL &&
            plugin->ops->open(settings, &plugin->state, error, sizeof(error)) != 0) {
            char clean[256];
            error[sizeof(error) - 1] = '\0';
            mr_text_clean(clean, sizeof(clean), mr_bytes_of(error));
            plugin->ops = NULL; /* what did not open is not closed */
            r = mr_problem_set(problem, MR_E_INVALID, "%s: %s", path,
                               clean[0] == '\0' ? "it refused to open" : clean);
        }
    }
    if (r != MR_OK) {
        mr__plugin_unload(plugin);
    }
    return r;
}

void mr__plugin_unload(struct mr__plugin *plugin)
{
    if (plugin->ops != NULL && plugin->ops->close != NULL) {
        plugin->ops->close(plugin->state);
    }
    if (plugin->library != NULL) {
        (void)dlclose(plugin->library); /* what remains of it is only memory */
    }
    *plugin = (struct mr__plugin){0};
}

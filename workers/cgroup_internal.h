/* Control groups, inside: cgroup.c has the tree of this process and the groups in it, cgroup_end.c
 * takes one apart (this process's own guardian does, or the next start), cgroup_text.c reads and
 * writes what the kernel's files say. */
#ifndef MR_WORKERS_CGROUP_INTERNAL_H
#define MR_WORKERS_CGROUP_INTERNAL_H

#include <limits.h>
#include <stdbool.h>

#include "core/bytes.h"
#include "workers/cgroup.h"

#define MR__CGROUP_PREFIX "millrace-" /* of a tree's folder */
#define MR__CGROUP_LEAF "bus"         /* in it: where the processes of our own group went */
#define MR__CGROUP_TEXT_MAX 4096u

/* --- cgroup_text.c: pure -------------------------------------------------------------------- */

/** The path of the v2 group in the text of /proc/self/cgroup. @return false: there is none */
bool mr__cgroup_own(struct mr_bytes text, struct mr_bytes *ret_path);
/** Whether a v1 hierarchy of /proc/self/cgroup has @p controller. */
bool mr__cgroup_is_v1(struct mr_bytes text, const char *controller);
/** The folder of group @p own, by the text of /proc/self/mountinfo.
 * @return MR_E_NOT_FOUND: no cgroup2 is mounted that shows it; MR_E_TOO_BIG */
MR_MUST_USE enum mr_status mr__cgroup_folder(struct mr_bytes text, struct mr_bytes own,
                                             char ret_folder[PATH_MAX]);
/** Whether @p word is among those of @p text, which have spaces between. */
bool mr__cgroup_has(struct mr_bytes text, const char *word);
/** The number behind @p key in a text of "key number" lines; 0 when it has none. */
uint64_t mr__cgroup_value(struct mr_bytes text, const char *key);
/** cpu.max for so many thousandths of a processor. @return @p text */
const char *mr__cgroup_cpu_text(uint32_t cpus_milli, char text[48]);
/** "+memory +pids", or with '-'. @return @p text, "" for no controllers */
const char *mr__cgroup_switch_text(unsigned controllers, char sign, char text[48]);
/** Those of @p controllers that @p text does not name. */
unsigned mr__cgroup_missing(unsigned controllers, struct mr_bytes text);
/** The name of the lowest bit of @p controllers. */
const char *mr__cgroup_name(unsigned controllers);

/* --- cgroup_end.c --------------------------------------------------------------------------- */

/** Reads a file below folder @p dir. @return its size; -1 with errno */
int64_t mr__cgroup_read(int dir, const char *path, char text[MR__CGROUP_TEXT_MAX]);
/** Writes a file below folder @p dir in one go. @return false with errno */
bool mr__cgroup_write(int dir, const char *path, const char *text);
/** Moves what is in group @p from to group @p to, both below @p dir; once through the list. */
void mr__cgroup_move(int dir, const char *from, const char *to);
/** Kills everything in group @p name below @p dir. */
void mr__cgroup_kill(int dir, const char *name);
/** Removes group @p name below @p dir with the groups in it. @return false: it is not empty */
bool mr__cgroup_remove(int dir, const char *name);
/** Locks a folder, as long as @p dir is open. @return false: somebody holds it @blocks 500 ms */
bool mr__cgroup_lock(int dir);
/** Puts OWN, which is locked, back as it was before tree @p dir, which has no instances, and
 * removes that. */
void mr__cgroup_put_back(int home, int dir, unsigned switched_on);
/** Removes trees in folder @p home whose Millrace is gone, with whatever is left in them. The lock
 * of @p home is held. @blocks 2 s at most, when a killed process does not go */
void mr__cgroup_remove_left(int home);

#endif

/* Lets a chosen call that changes files fail, or end the process.  Loaded by LD_PRELOAD; see kill.py.

   Counted are the calls on paths below a root that create, write, sync, rename or remove.  Calls on event files of
   TensorBoard have a counter of their own, because a thread makes them.  Nothing happens before disk_arm(). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { NEVER, KILLED, TORN, FULL, BROKEN, READ_ONLY, STOPPED };
enum { CREATE = 1, WRITE = 2, SYNC = 4, RENAME = 8, REMOVE = 16, CUT = 32 };
#define MOST 4096

static char root[PATH_MAX], until[PATH_MAX];
static long strike, counts[2], shift;
static int way, counter, failing, trace = -1;
static const int *killed; /* the process that KILLED ends, which may not be this one */
static unsigned char known[MOST]; /* descriptors of watched files: 1, or 2 for event files */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void disk_arm(const char *folder, long at, int how, int which, long seconds, int log, const char *path, const int *pid) {
    snprintf(root, sizeof root, "%s", folder);
    snprintf(until, sizeof until, "%s", path);
    strike = at, way = how, counter = which, shift = seconds, trace = log, failing = 0, killed = pid;
    counts[0] = counts[1] = 0;
}

long disk_count(int which) { return counts[which]; }

/* Whether a path is watched: 0, 1, or 2 for event files. */
static int watched(int folder, const char *path, char *whole) {
    if (!root[0]) return 0;
    if (path[0] == '/') {
        snprintf(whole, PATH_MAX, "%s", path);
    } else {
        char link[64];
        snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, whole, PATH_MAX - 1);
        if (length < 0) return 0;
        snprintf(whole + length, PATH_MAX - length, "/%s", path);
    }
    size_t length = strlen(root);
    if (strncmp(whole, root, length) || (whole[length] && whole[length] != '/')) return 0;
    return strstr(whole + length, "/tensorboard/") ? 2 : 1;
}

/* Count a call; return the error that it is to fail with, -1 where it is to be torn, else 0. */
static int counted(int kind, int sort, const char *path) {
    static const char *const words[] = {"", "create", "write", "", "sync"};
    int which = kind - 1, found = 0;
    pthread_mutex_lock(&lock);
    long number = ++counts[which];
    if (trace >= 0) {
        const char *word = sort == RENAME ? "rename" : sort == REMOVE ? "remove" : sort == CUT ? "cut" : words[sort];
        dprintf(trace, "%d %ld %s %s\n", which, number, word, path);
    }
    int here = which == counter && number == strike;
    if (here && way == KILLED) kill(killed ? *killed : getpid(), SIGKILL);
    if (way == STOPPED && which == 0 && (!until[0] || !strcmp(path, until))) kill(getpid(), SIGSTOP);
    if (here && way == TORN) found = -1;
    if (here && way == BROKEN) found = EIO;
    if (here && (way == FULL || way == READ_ONLY)) failing = 1;
    if (failing && way == READ_ONLY && sort != SYNC) found = EROFS;
    if (failing && way == FULL && (sort & (CREATE | WRITE | RENAME))) found = here && sort == WRITE ? -1 : ENOSPC;
    pthread_mutex_unlock(&lock);
    return found;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define REFUSED(error) if ((error) > 0) return errno = (error), -1

static int path_of(int fd, char *whole) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, whole, PATH_MAX - 1);
    whole[length < 0 ? 0 : length] = 0;
    return fd >= 0 && fd < MOST ? known[fd] : 0;
}

static int opened(int folder, const char *path, int flags, mode_t mode) {
    char whole[PATH_MAX];
    int kind = watched(folder, path, whole);
    if (kind && (flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR))) {
        int error = counted(kind, CREATE, whole);
        REFUSED(error);
    }
    int fd = (int)syscall(SYS_openat, folder, path, flags, mode);
    if (fd >= 0 && fd < MOST) known[fd] = kind;
    return fd;
}

#define MODE va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest)
int open(const char *path, int flags, ...) { MODE; return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE; return opened(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int fd, const char *path, int flags, ...) { MODE; return opened(fd, path, flags, mode); }
int openat64(int fd, const char *path, int flags, ...) { MODE; return opened(fd, path, flags | O_LARGEFILE, mode); }

int close(int fd) {
    REAL(close);
    if (fd >= 0 && fd < MOST) known[fd] = 0;
    return real(fd);
}

/* Count a call that writes; a torn one gets half of its bytes, and ends the process unless the disk is full. */
static size_t allowed(int fd, size_t size, int *error) {
    char whole[PATH_MAX];
    int kind = path_of(fd, whole);
    *error = kind ? counted(kind, WRITE, whole) : 0;
    return *error < 0 ? size / 2 : size;
}
#define WRITTEN(call)                                   \
    int error;                                          \
    size_t part = allowed(to, size, &error);            \
    REFUSED(error);                                     \
    ssize_t done = call;                                \
    if (error < 0 && way == TORN) kill(getpid(), SIGKILL); \
    return done
ssize_t write(int to, const void *data, size_t size) { REAL(write); WRITTEN(real(to, data, part)); }
ssize_t writev(int to, const struct iovec *parts, int size) { REAL(writev); WRITTEN(real(to, parts, (int)part)); }
ssize_t pwrite64(int to, const void *data, size_t size, off64_t at) { REAL(pwrite64); WRITTEN(real(to, data, part, at)); }
ssize_t sendfile64(int to, int from, off64_t *at, size_t size) { REAL(sendfile64); WRITTEN(real(to, from, at, part)); }

static int changed(int fd, int sort) {
    char whole[PATH_MAX];
    int kind = path_of(fd, whole);
    return kind ? counted(kind, sort, whole) : 0;
}
int fsync(int fd) { REAL(fsync); int error = changed(fd, SYNC); REFUSED(error); return real(fd); }
int fdatasync(int fd) { REAL(fdatasync); int error = changed(fd, SYNC); REFUSED(error); return real(fd); }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); int error = changed(fd, CUT); REFUSED(error); return real(fd, size); }

static int named(int folder, const char *path, int sort) {
    char whole[PATH_MAX];
    int kind = watched(folder, path, whole);
    return kind ? counted(kind, sort, whole) : 0;
}
#define NAMED(fd, path, sort) int error = named(fd, path, sort); REFUSED(error)
int mkdir(const char *path, mode_t mode) { REAL(mkdir); NAMED(AT_FDCWD, path, CREATE); return real(path, mode); }
int rmdir(const char *path) { REAL(rmdir); NAMED(AT_FDCWD, path, REMOVE); return real(path); }
int unlink(const char *path) { REAL(unlink); NAMED(AT_FDCWD, path, REMOVE); return real(path); }
int unlinkat(int fd, const char *path, int flags) { REAL(unlinkat); NAMED(fd, path, REMOVE); return real(fd, path, flags); }
int rename(const char *from, const char *to) { REAL(rename); NAMED(AT_FDCWD, to, RENAME); return real(from, to); }
int link(const char *from, const char *to) { REAL(link); NAMED(AT_FDCWD, to, CREATE); return real(from, to); }
int linkat(int a, const char *from, int b, const char *to, int flags) {
    REAL(linkat);
    NAMED(b, to, CREATE);
    return real(a, from, b, to, flags);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int found = (int)syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += shift;
    return found;
}

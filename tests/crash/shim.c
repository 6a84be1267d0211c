/* Logs what a process does to the files below one directory, and can let one of these calls fail.
 *
 *   cc -shared -fPIC -O2 -o shim.so shim.c -ldl
 *   LD_PRELOAD=shim.so UNIQDB_SHIM_ROOT=/dir UNIQDB_SHIM_LOG=/elsewhere/log program
 *
 * Without UNIQDB_SHIM_LOG nothing is logged. The log is a sequence of records, little-endian:
 *   u32 operation, u32 length of path, u32 length of second path, u64 offset, u64 size of data, then the three;
 *   only a write has its data there.
 * The program itself may call uniqdb_shim_note(number), which adds a record without a path, and
 * uniqdb_shim_fail(what, number, error, forever): the call of that kind with that number from now on, counted from 1,
 * and with `forever` every later one, fails with this errno. `what`: 1 writes, 2 syncs, 3 both; 0 stops it.
 * uniqdb_shim_calls() says how many there were since then.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, TRUNCATE, SYNC, RENAME, UNLINK, MKDIR, CREATE, NOTE, SYNCED };
enum { WRITES = 1, SYNCS = 2 };

static const char *root;
static int log_fd = -2;
static int fail_what, fail_error, fail_forever;
static long fail_at, calls;

static void begin(void) {
    if (log_fd != -2) return;
    log_fd = -1;
    root = getenv("UNIQDB_SHIM_ROOT");
    const char *name = getenv("UNIQDB_SHIM_LOG");
    if (root && name) log_fd = syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void put(const void *data, size_t size) {
    const char *at = data;
    while (size) {
        ssize_t done = syscall(SYS_write, log_fd, at, size);
        if (done <= 0) _exit(99);
        at += done;
        size -= done;
    }
}

static void record(uint32_t what, const char *path, const char *other, uint64_t offset, uint64_t size) {
    char head[28];
    uint32_t length = path ? strlen(path) : 0, other_length = other ? strlen(other) : 0;
    memcpy(head, &what, 4);
    memcpy(head + 4, &length, 4);
    memcpy(head + 8, &other_length, 4);
    memcpy(head + 12, &offset, 8);
    memcpy(head + 20, &size, 8);
    put(head, sizeof head);
    if (length) put(path, length);
    if (other_length) put(other, other_length);
}

static int is_ours(const char *path) {
    size_t length = root ? strlen(root) : 0;
    return length && path && strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == 0);
}

/* The path of an open file, if it is one of ours. */
static int path_of(int fd, char *path) {
    char link[64];
    begin();
    if (!root) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return is_ours(path);
}

/* Whether this call is to fail; errno is set then. */
static int fails(int what) {
    if (!(fail_what & what)) return 0;
    calls++;
    if (calls != fail_at && !(fail_forever && calls > fail_at)) return 0;
    errno = fail_error;
    return 1;
}

#define NEXT(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

/* A write to a file that is open with O_DSYNC is synced when it returns: LMDB's meta pages are written so. */
static void log_data(int fd, const char *path, const struct iovec *parts, int count, off_t offset, ssize_t done) {
    if (done <= 0 || log_fd < 0) return;
    int flags = fcntl(fd, F_GETFL);
    ssize_t whole = done;
    record(WRITE, path, 0, offset, done);
    for (int i = 0; i < count && done > 0; i++) {
        size_t size = parts[i].iov_len < (size_t)done ? parts[i].iov_len : (size_t)done;
        put(parts[i].iov_base, size);
        done -= size;
    }
    if (flags >= 0 && (flags & O_DSYNC)) record(SYNCED, path, 0, offset, whole);
}

static off_t place_of(int fd) {
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_APPEND) ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
}

ssize_t write(int fd, const void *data, size_t size) {
    NEXT(ssize_t, "write", int, const void *, size_t);
    char path[PATH_MAX];
    if (!path_of(fd, path)) return real(fd, data, size);
    if (fails(WRITES)) return -1;
    off_t at = place_of(fd);
    ssize_t done = real(fd, data, size);
    struct iovec part = {(void *)data, size};
    log_data(fd, path, &part, 1, at, done);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    NEXT(ssize_t, "writev", int, const struct iovec *, int);
    char path[PATH_MAX];
    if (!path_of(fd, path)) return real(fd, parts, count);
    if (fails(WRITES)) return -1;
    off_t at = place_of(fd);
    ssize_t done = real(fd, parts, count);
    log_data(fd, path, parts, count, at, done);
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    NEXT(ssize_t, "pwrite", int, const void *, size_t, off_t);
    char path[PATH_MAX];
    if (!path_of(fd, path)) return real(fd, data, size, offset);
    if (fails(WRITES)) return -1;
    ssize_t done = real(fd, data, size, offset);
    struct iovec part = {(void *)data, size};
    log_data(fd, path, &part, 1, offset, done);
    return done;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) { return pwrite(fd, data, size, offset); }

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    NEXT(ssize_t, "pwritev", int, const struct iovec *, int, off_t);
    char path[PATH_MAX];
    if (!path_of(fd, path)) return real(fd, parts, count, offset);
    if (fails(WRITES)) return -1;
    ssize_t done = real(fd, parts, count, offset);
    log_data(fd, path, parts, count, offset, done);
    return done;
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    return pwritev(fd, parts, count, offset);
}

int ftruncate(int fd, off_t size) {
    NEXT(int, "ftruncate", int, off_t);
    char path[PATH_MAX];
    if (!path_of(fd, path)) return real(fd, size);
    if (fails(WRITES)) return -1;
    int done = real(fd, size);
    if (!done && log_fd >= 0) record(TRUNCATE, path, 0, size, 0);
    return done;
}

int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

static int synced(int fd, int (*real)(int)) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return real(fd);
    if (fails(SYNCS)) return -1;
    int done = real(fd);
    if (!done && log_fd >= 0) record(SYNC, path, 0, 0, 0);
    return done;
}

int fsync(int fd) {
    NEXT(int, "fsync", int);
    return synced(fd, real);
}

int fdatasync(int fd) {
    NEXT(int, "fdatasync", int);
    return synced(fd, real);
}

int rename(const char *from, const char *to) {
    NEXT(int, "rename", const char *, const char *);
    begin();
    if (is_ours(from) && fails(WRITES)) return -1;
    int done = real(from, to);
    if (!done && is_ours(from) && log_fd >= 0) record(RENAME, from, to, 0, 0);
    return done;
}

int unlink(const char *path) {
    NEXT(int, "unlink", const char *);
    begin();
    int done = real(path);
    if (!done && is_ours(path) && log_fd >= 0) record(UNLINK, path, 0, 0, 0);
    return done;
}

int rmdir(const char *path) {
    NEXT(int, "rmdir", const char *);
    begin();
    int done = real(path);
    if (!done && is_ours(path) && log_fd >= 0) record(UNLINK, path, 0, 0, 0);
    return done;
}

int unlinkat(int directory, const char *name, int flags) {
    NEXT(int, "unlinkat", int, const char *, int);
    char path[PATH_MAX];
    int is_known = directory == AT_FDCWD ? (begin(), is_ours(name)) : path_of(directory, path);
    int done = real(directory, name, flags);
    if (!done && is_known && log_fd >= 0) {
        if (directory == AT_FDCWD) {
            record(UNLINK, name, 0, 0, 0);
        } else {
            size_t length = strlen(path);
            snprintf(path + length, PATH_MAX - length, "/%s", name);
            record(UNLINK, path, 0, 0, 0);
        }
    }
    return done;
}

int mkdir(const char *path, mode_t mode) {
    NEXT(int, "mkdir", const char *, mode_t);
    begin();
    int done = real(path, mode);
    if (!done && is_ours(path) && log_fd >= 0) record(MKDIR, path, 0, 0, 0);
    return done;
}

/* A file that is new, or emptied. */
static void opened(const char *path, int flags, int fd, int was_there) {
    if (fd < 0 || !is_ours(path) || log_fd < 0) return;
    if ((flags & O_CREAT) && !was_there) record(CREATE, path, 0, 0, 0);
    if ((flags & O_TRUNC) && was_there) record(TRUNCATE, path, 0, 0, 0);
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        NEXT(int, #name, const char *, int, ...); \
        begin(); \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = (flags & O_CREAT) ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        int was_there = is_ours(path) && access(path, F_OK) == 0; \
        int fd = real(path, flags, mode); \
        opened(path, flags, fd, was_there); \
        return fd; \
    }
OPEN(open)
OPEN(open64)

void uniqdb_shim_note(uint64_t number) {
    begin();
    if (log_fd >= 0) record(NOTE, 0, 0, number, 0);
}

void uniqdb_shim_fail(int what, long number, int error, int forever) {
    fail_what = what;
    fail_at = number;
    fail_error = error;
    fail_forever = forever;
    calls = 0;
}

long uniqdb_shim_calls(void) { return calls; }

/* A disk that fails on demand, below everything that a process writes.
 *
 * Preloaded (ld.so(8)), it stands between a process and the C library. A file that is shared with
 * the test says which calls on which files fail, how, and after how many; and counts what was done,
 * so that a test can prove that the fault happened. See tests/integration/faulty_disk.py, which
 * knows the same layout.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum call { WRITE = 1, GROW = 2, SYNC = 4, TRUNCATE = 8, CREATE = 16, RENAME = 32, READ = 64, LINK = 128 };

enum action { PASS, FAIL, SHORTEN, TEAR, KILL };

struct control {
  uint64_t is_armed;
  uint64_t action;
  uint64_t calls;    /* which ones, a set of enum call */
  uint64_t error;    /* the errno of FAIL and TEAR */
  uint64_t skip;     /* how many of them succeed first */
  uint64_t limit;    /* how many fail then; 0: all */
  uint64_t seen;     /* such calls since it was armed */
  uint64_t injected; /* faults since it was armed */
  uint64_t process;  /* who has loaded the library */
  char pattern[184]; /* part of the path of the files that are meant */
};

static struct control *control;

__attribute__((constructor)) static void load(void) {
  const char *path = getenv("KOS_FAULTY_DISK");
  int descriptor = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (descriptor < 0) return;
  void *memory = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  close(descriptor);
  if (memory == MAP_FAILED) return;
  /* This process alone: its children have disks of their own. */
  unsetenv("LD_PRELOAD");
  control = memory;
  control->process = (uint64_t)getpid();
}

/* Decide about one call on a path. */
static enum action judge(const char *path, unsigned call) {
  if (!control || !__atomic_load_n(&control->is_armed, __ATOMIC_ACQUIRE)) return PASS;
  if (!(control->calls & call) || !strstr(path, control->pattern)) return PASS;
  uint64_t number = __atomic_fetch_add(&control->seen, 1, __ATOMIC_RELAXED);
  if (number < control->skip) return PASS;
  if (control->limit && number >= control->skip + control->limit) return PASS;
  __atomic_fetch_add(&control->injected, 1, __ATOMIC_RELAXED);
  return (enum action)control->action;
}

static enum action judge_open(int descriptor, unsigned call) {
  char link[64], path[PATH_MAX];
  if (!control || !control->is_armed) return PASS;
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return PASS;
  path[length] = 0;
  return judge(path, call);
}

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

/* Fail a call that has nothing to do by halves; true when it must not be done. */
static int fails(enum action action) {
  if (action == KILL) die();
  if (action != FAIL && action != TEAR) return 0;
  errno = (int)control->error;
  return 1;
}

#define REAL(name, ...) \
  static __typeof__(name) *real; \
  if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name);

/* How much of a write is done: all of it, or half, or nothing. */
static size_t share(enum action action, size_t size) {
  if (action == FAIL) return 0;
  if (action == PASS || size < 2) return size;
  return size / 2;
}

/* What a write answers that has been done as far as `share` says. */
static ssize_t answer(enum action action, ssize_t done) {
  if (action == KILL) die();
  if (action == FAIL || action == TEAR) {
    errno = (int)control->error;
    return -1;
  }
  return done;
}

static unsigned kind_of_write(int descriptor, off64_t end) {
  struct stat64 state;
  if (fstat64(descriptor, &state) || !S_ISREG(state.st_mode)) return WRITE;
  return end > state.st_size ? WRITE | GROW : WRITE;
}

ssize_t write(int descriptor, const void *data, size_t size) {
  REAL(write)
  if (!control || !control->is_armed) return real(descriptor, data, size);
  off64_t offset = lseek64(descriptor, 0, SEEK_CUR);
  unsigned kind = offset < 0 ? WRITE : kind_of_write(descriptor, offset + (off64_t)size);
  enum action action = judge_open(descriptor, kind);
  size_t part = share(action, size);
  return answer(action, part ? real(descriptor, data, part) : 0);
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t offset) {
  REAL(pwrite64)
  if (!control || !control->is_armed) return real(descriptor, data, size, offset);
  enum action action = judge_open(descriptor, kind_of_write(descriptor, offset + (off64_t)size));
  size_t part = share(action, size);
  return answer(action, part ? real(descriptor, data, part, offset) : 0);
}

ssize_t pwrite(int descriptor, const void *data, size_t size, off_t offset) {
  return pwrite64(descriptor, data, size, offset);
}

ssize_t pread64(int descriptor, void *data, size_t size, off64_t offset) {
  REAL(pread64)
  if (fails(judge_open(descriptor, READ))) return -1;
  return real(descriptor, data, size, offset);
}

ssize_t pread(int descriptor, void *data, size_t size, off_t offset) {
  return pread64(descriptor, data, size, offset);
}

int fsync(int descriptor) {
  REAL(fsync)
  return fails(judge_open(descriptor, SYNC)) ? -1 : real(descriptor);
}

int fdatasync(int descriptor) {
  REAL(fdatasync)
  return fails(judge_open(descriptor, SYNC)) ? -1 : real(descriptor);
}

int ftruncate64(int descriptor, off64_t size) {
  REAL(ftruncate64)
  return fails(judge_open(descriptor, TRUNCATE)) ? -1 : real(descriptor, size);
}

int ftruncate(int descriptor, off_t size) { return ftruncate64(descriptor, size); }

int rename(const char *from, const char *to) {
  REAL(rename)
  return fails(judge(to, RENAME)) ? -1 : real(from, to);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
  REAL(renameat)
  return fails(judge(to, RENAME)) ? -1 : real(from_folder, from, to_folder, to);
}

int link(const char *from, const char *to) {
  REAL(link)
  return fails(judge(to, LINK)) ? -1 : real(from, to);
}

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
  REAL(linkat)
  return fails(judge(to, LINK)) ? -1 : real(from_folder, from, to_folder, to, flags);
}

/* A file that exists is opened as ever: that needs no space. */
static int fails_to_create(const char *path, int flags) {
  return flags & O_CREAT && access(path, F_OK) && fails(judge(path, CREATE));
}

static mode_t mode_of(int flags, va_list arguments) {
  return flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

#define OPENS(name) \
  int name(const char *path, int flags, ...) { \
    REAL(name) \
    va_list arguments; \
    va_start(arguments, flags); \
    mode_t mode = mode_of(flags, arguments); \
    va_end(arguments); \
    return fails_to_create(path, flags) ? -1 : real(path, flags, mode); \
  }

#define OPENS_AT(name) \
  int name(int folder, const char *path, int flags, ...) { \
    REAL(name) \
    va_list arguments; \
    va_start(arguments, flags); \
    mode_t mode = mode_of(flags, arguments); \
    va_end(arguments); \
    return fails_to_create(path, flags) ? -1 : real(folder, path, flags, mode); \
  }

OPENS(open)
OPENS(open64)
OPENS_AT(openat)
OPENS_AT(openat64)

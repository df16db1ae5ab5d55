/* Preloaded into a program, makes each fsync and fdatasync take longer, as on a slow disk.
 *
 * SLOW_SYNC_MICROSECONDS   what to add to each call
 * SLOW_SYNC_COUNTER        a file of eight bytes that counts the calls of all processes
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct timespec added;
static long *n_calls;

__attribute__((constructor)) static void read_environment(void)
{
    const char *microseconds = getenv("SLOW_SYNC_MICROSECONDS");
    const char *counter = getenv("SLOW_SYNC_COUNTER");
    long n = microseconds ? atol(microseconds) : 0;
    added.tv_sec = n / 1000000;
    added.tv_nsec = n % 1000000 * 1000;
    int fd = counter ? open(counter, O_RDWR | O_CLOEXEC) : -1;
    if (fd >= 0) {
        void *page = mmap(NULL, sizeof *n_calls, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (page != MAP_FAILED)
            n_calls = page;
        close(fd);
    }
}

static int slowly(long call, int fd)
{
    if (n_calls)
        __atomic_fetch_add(n_calls, 1, __ATOMIC_RELAXED);
    if (added.tv_sec || added.tv_nsec)
        nanosleep(&added, NULL);
    return syscall(call, fd);
}

int fsync(int fd)
{
    return slowly(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return slowly(SYS_fdatasync, fd);
}

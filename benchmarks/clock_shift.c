/* Shifts the clock of a process by as many seconds as a file says, while it runs: LD_PRELOAD it, with the
   file's name in CLOCK_SHIFT_FILE. Only the time of day is shifted; monotonic clocks and sleeping are not. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static int (*clock_gettime_really)(clockid_t, struct timespec *);

static long shift(void)
{
    static long seconds;
    static time_t read_at = -1;
    struct timespec now;
    const char *name = getenv("CLOCK_SHIFT_FILE");
    clock_gettime_really(CLOCK_MONOTONIC, &now);
    if (name && now.tv_sec != read_at) {
        FILE *file = fopen(name, "r");
        if (file) {
            if (fscanf(file, "%ld", &seconds) != 1)
                seconds = 0;
            fclose(file);
        }
        read_at = now.tv_sec;
    }
    return seconds;
}

int clock_gettime(clockid_t id, struct timespec *time)
{
    if (!clock_gettime_really)
        clock_gettime_really = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = clock_gettime_really(id, time);
    if (!result && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        time->tv_sec += shift();
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *place)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (place)
        *place = now.tv_sec;
    return now.tv_sec;
}

/* Preloaded into a process, it makes its wall clock wrong by the seconds that the file tells, and nothing else:
   durations go on as they are, as on a machine whose clock is set. No header is needed, so any compiler does. */
#ifdef __aarch64__
#define CLOCK_GETTIME 113
#else
#define CLOCK_GETTIME 228
#endif
#define REALTIME 0
#define REALTIME_COARSE 5

struct timespec { long seconds, nanoseconds; };
struct timeval { long seconds, microseconds; };

long syscall(long number, ...);
int open(const char *path, int flags, ...);
long read(int file, void *buffer, unsigned long size);
int close(int file);
long atol(const char *text);

static long wrong_by(void)
{
    char text[32];
    long size = -1;
    int file = open(CLOCK_FILE, 0);
    if (file >= 0) {
        size = read(file, text, sizeof text - 1);
        close(file);
    }
    if (size <= 0)
        return 0;
    text[size] = 0;
    return atol(text);
}

int clock_gettime(int clock, struct timespec *now)
{
    int result = syscall(CLOCK_GETTIME, (long)clock, now);
    if (result == 0 && (clock == REALTIME || clock == REALTIME_COARSE))
        now->seconds += wrong_by();
    return result;
}

long time(long *where)
{
    struct timespec now;
    clock_gettime(REALTIME, &now);
    if (where)
        *where = now.seconds;
    return now.seconds;
}

int gettimeofday(struct timeval *now, void *zone)
{
    struct timespec exact;
    clock_gettime(REALTIME, &exact);
    now->seconds = exact.seconds;
    now->microseconds = exact.nanoseconds / 1000;
    return 0;
}

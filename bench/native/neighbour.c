/* Watches what a core's other tenants take from it.
 *
 *   neighbour
 *
 * A virtual core may be one of two threads of a real one, and nobody says who runs on the other.  Whoever does takes a
 * share of the instructions that the core can start in a cycle, which no clock of the guest shows: the same work then just
 * takes more processor time.  This program does a tiny piece of work (under a tenth of a millisecond) fifty times a second
 * that needs nothing but that: additions that do not wait for each other and touch no memory, so that the caches of
 * whoever is measured meanwhile on the same core stay as they are.
 *
 * For each line that it reads it prints {"nanoseconds": N, "looks": N}: what a step took since the line before, by its own
 * processor time, as the mean of so many looks.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { STEPS = 100000, PAUSE_MS = 20 };

static double cpu_nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static double look(void) {
    uint64_t a = 1, b = 2, c = 3, d = 4, e = 5, f = 6;
    double began = cpu_nanoseconds();
    for (uint64_t i = 0; i < STEPS; i++) {
        a += i;
        b ^= i;
        c += a;
        d ^= i;
        e += i;
        f ^= e;
        /* The compiler may not see through this, or it would work the sums out beforehand. */
        __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f));
    }
    return (cpu_nanoseconds() - began) / STEPS;
}

int main(void) {
    double sum = 0;
    int looks = 0;
    char line[64];
    for (;;) {
        struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
        if (poll(&input, 1, PAUSE_MS) > 0) {
            if (read(STDIN_FILENO, line, sizeof line) <= 0) return 0;
            if (!looks) {
                sum = look();
                looks = 1;
            }
            printf("{\"nanoseconds\": %.4f, \"looks\": %d}\n", sum / looks, looks);
            fflush(stdout);
            sum = 0;
            looks = 0;
        } else {
            sum += look();
            looks++;
        }
    }
}

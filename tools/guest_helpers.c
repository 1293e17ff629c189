/* The first process of a guest kernel: loads one call of each helper for each program type and prints what is allowed.
 *
 * Built and booted by tools/probe_old_kernels.py, which writes cases.h (program type, attach type, flags). Prints one
 * line for each case: the numbers of the allowed helpers, with a g behind those that want a GPL-compatible licence.
 */
#include "cases.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#define HELPERS 211
#define PROG_LOAD 5

struct insn {
    uint8_t code, registers;
    int16_t off;
    int32_t imm;
};

static char text[1 << 16];

static int load(const struct insn *program, uint32_t length, const unsigned *kind, const char *licence) {
    /* union bpf_attr of BPF_PROG_LOAD, by its offsets */
    unsigned char attr[144] = {0};
    const uint32_t level = 1, size = sizeof text;
    const uint64_t code = (uint64_t)program, name = (uint64_t)licence, log = (uint64_t)text;
    memcpy(attr, &kind[0], 4);
    memcpy(attr + 4, &length, 4);
    memcpy(attr + 8, &code, 8);
    memcpy(attr + 16, &name, 8);
    memcpy(attr + 24, &level, 4);
    memcpy(attr + 28, &size, 4);
    memcpy(attr + 32, &log, 8);
    memcpy(attr + 44, &kind[2], 4);
    memcpy(attr + 68, &kind[1], 4);
    text[0] = 0;
    const int fd = syscall(SYS_bpf, PROG_LOAD, attr, sizeof attr);
    if (fd < 0) return 0;
    close(fd);
    return 1;
}

static int try_exit(const unsigned *kind, int verdict) {
    const struct insn program[] = {{0xb7, 0, 0, verdict}, {0x95, 0, 0, 0}};
    return load(program, 2, kind, "GPL");
}

/* A call with zeroes from register `first` on. */
static int try_call(const unsigned *kind, int helper, int first, const char *licence) {
    struct insn program[8];
    uint32_t length = 0;
    for (uint8_t reg = first; reg <= 5; reg++) program[length++] = (struct insn){0xb7, reg, 0, 0};
    program[length++] = (struct insn){0x85, 0, 0, helper};
    program[length++] = (struct insn){0xb7, 0, 0, 1};
    program[length++] = (struct insn){0x95, 0, 0, 0};
    return load(program, length, kind, licence);
}

static int is_denied(void) {
    return strstr(text, "cannot use helper") || strstr(text, "unknown func") || strstr(text, "invalid func unknown") ||
           strstr(text, "not supported in") || strstr(text, "not supported for program type");
}

int main(void) {
    struct utsname host;
    const int console = open("/dev/console", O_RDWR);
    dup2(console, 1);
    uname(&host);
    printf("\nKERNEL %s\n", host.release);
    for (unsigned number = 0; number < sizeof cases / sizeof *cases; number++) {
        const unsigned *kind = cases[number];
        if (!try_exit(kind, 1) && !try_exit(kind, 0)) continue;
        printf("CASE %u %u %u:", kind[0], kind[1], kind[2]);
        for (int helper = 1; helper <= HELPERS; helper++) {
            int allowed = 1;
            for (int first = 1; first <= 2; first++)
                if (!try_call(kind, helper, first, "GPL") && is_denied()) allowed = 0;
            if (!allowed) continue;
            try_call(kind, helper, 1, "Apache-2.0");
            printf(" %d%s", helper, strstr(text, "GPL-restricted") ? "g" : "");
        }
        printf("\n");
    }
    printf("DONE\n");
    fflush(stdout);
    sleep(1);
    reboot(RB_POWER_OFF);
    for (;;) pause();
}

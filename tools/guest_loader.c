/* The first process of a guest kernel: makes the bpf(2) calls of a batch, one after the other, and reports each answer.
 *
 * Built and booted by tools/guest_kernel.py, which writes /batch. A record of it is a header, the attr, pointer fix-ups
 * (pairs: offset in the attr, offset in the data) and data. A descriptor that a call gives is moved to the number that
 * the record asks for, so that later records can name it. Answers go to the second serial port.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <termios.h>
#include <unistd.h>

enum { SEND_FILE = 1001, LOAD_MODULE = 1002, LOG_ROOM = 64 << 20, ATTR = 160 };

struct header {
    uint32_t command, fd, attr_size, fixups, data_size;
    int32_t log_at, log_size_at; /* where the attr wants the log's address and size, -1: no log */
    uint32_t log_tail;           /* so many bytes of its end are sent */
    uint32_t log_room, user;     /* user: not 0 to call as that user without capabilities */
    uint32_t unless_open, watched; /* nothing to do when `fd` is open; wait until the answer is out */
};

static char *log_text;
static int out;

static void send_all(const void *data, size_t size) {
    const char *at = data;
    while (size) {
        const ssize_t done = write(out, at, size);
        if (done <= 0) break;
        at += done;
        size -= done;
    }
}

static void answer(int32_t result, const char *text, uint32_t size, uint32_t whole) {
    const uint32_t head[4] = {0x42464245, (uint32_t)result, size, whole};
    send_all(head, sizeof head);
    send_all(text, size);
}

static char *read_file(const char *path, size_t *size) {
    const int fd = open(path, O_RDONLY);
    size_t room = 1 << 20;
    char *text = malloc(room);
    *size = 0;
    if (fd < 0) return text;
    for (;;) {
        const ssize_t got = read(fd, text + *size, room - *size);
        if (got <= 0) break;
        *size += got;
        if (*size == room) text = realloc(text, room *= 2);
    }
    close(fd);
    return text;
}

static void call(const struct header *head, const char *attr_bytes, const uint32_t *fixups, const char *data) {
    char attr[ATTR] = {0};
    memcpy(attr, attr_bytes, head->attr_size < ATTR ? head->attr_size : ATTR);
    for (uint32_t number = 0; number < head->fixups; number++) {
        const uint64_t address = (uint64_t)(data + fixups[2 * number + 1]);
        memcpy(attr + fixups[2 * number], &address, 8);
    }
    if (head->unless_open && fcntl(head->fd, F_GETFD) >= 0) {
        answer(0, "", 0, 0);
        return;
    }
    log_text[0] = 0;
    if (head->log_at >= 0) {
        const uint64_t address = (uint64_t)log_text;
        const uint32_t room = head->log_room && head->log_room < LOG_ROOM ? head->log_room : LOG_ROOM;
        memcpy(attr + head->log_at, &address, 8);
        memcpy(attr + head->log_size_at, &room, 4);
    }
    if (head->user) syscall(SYS_setresuid, -1, head->user, -1);
    long result = syscall(SYS_bpf, head->command, attr, head->attr_size);
    for (int again = 0; result < 0 && errno == EAGAIN && again < 5; again++)
        result = syscall(SYS_bpf, head->command, attr, head->attr_size);
    const int error = errno;
    if (head->user) syscall(SYS_setresuid, -1, 0, -1);
    if (result < 0) result = -error;
    else if (head->fd && result != (long)head->fd) {
        dup2(result, head->fd);
        close(result);
    } else if (!head->fd && result > 2)
        close(result);
    const size_t whole = head->log_at >= 0 ? strlen(log_text) : 0;
    const size_t size = whole < head->log_tail ? whole : head->log_tail;
    answer(result < 0 ? result : 0, log_text + whole - size, size, whole);
}

int main(void) {
    struct termios line;
    struct utsname host;
    const struct rlimit many = {1 << 20, 1 << 20}, free_memory = {RLIM_INFINITY, RLIM_INFINITY};
    const int console = open("/dev/console", O_RDWR);
    dup2(console, 1);
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    mkdir("/dev", 0755);
    mount("proc", "/proc", "proc", 0, "");
    mount("sysfs", "/sys", "sysfs", 0, "");
    mount("devtmpfs", "/dev", "devtmpfs", 0, "");
    out = dup2(open("/dev/ttyS1", O_RDWR | O_NOCTTY), 9);
    tcgetattr(out, &line);
    cfmakeraw(&line);
    cfsetspeed(&line, B115200);
    tcsetattr(out, TCSANOW, &line);
    const int most = open("/proc/sys/fs/nr_open", O_WRONLY);
    if (write(most, "2000000", 7) < 0) perror("nr_open");
    close(most);
    setrlimit(RLIMIT_NOFILE, &many);
    setrlimit(RLIMIT_MEMLOCK, &free_memory);
    const int open_to_all = open("/proc/sys/kernel/unprivileged_bpf_disabled", O_WRONLY);
    if (write(open_to_all, "0", 1) < 0) perror("unprivileged_bpf_disabled");
    close(open_to_all);
    uname(&host);
    answer(0, host.release, strlen(host.release), strlen(host.release));
    tcdrain(out);
    log_text = malloc(LOG_ROOM);
    size_t size;
    char *at = read_file("/batch", &size);
    const char *const end = at + size;
    while (at + sizeof(struct header) <= end) {
        struct header head;
        memcpy(&head, at, sizeof head);
        char *const attr = at + sizeof head;
        uint32_t *const fixups = (uint32_t *)(attr + head.attr_size);
        char *const data = (char *)(fixups + 2 * head.fixups);
        at = data + (head.data_size + 7) / 8 * 8;
        if (head.command == SEND_FILE) {
            size_t found;
            char *text = read_file(data, &found);
            answer(0, text, found, found);
            free(text);
        } else if (head.command == LOAD_MODULE) {
            const long result = syscall(SYS_init_module, data, (unsigned long)head.data_size, "");
            answer(result < 0 ? -errno : 0, "", 0, 0);
        } else {
            call(&head, attr, fixups, data);
        }
        if (head.watched) tcdrain(out);
    }
    answer(0, "END", 3, 3);
    tcdrain(out);
    sleep(1);
    reboot(RB_POWER_OFF);
    for (;;) pause();
}

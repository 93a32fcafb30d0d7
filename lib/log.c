/* The log: one JSON object (or, for people, one line of text) per event on a descriptor.
 *
 *   log_fields -> [ bounded buffer of whole lines ] -> log_flush -> descriptor
 *
 * The descriptor is often shared with other processes (a terminal, a container's stderr), so we
 * must not set its O_NONBLOCK. Instead we open the same pipe or terminal a second time, with an
 * open file of our own that does not block. Where that is refused, we call poll(2) before each
 * write. A pipe gets whole lines, together at most PIPE_BUF bytes, which the kernel takes at once
 * or not at all: our lines never mix with those of others. */
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    LINE_MAX_BYTES = PIPE_BUF,           /* one line with its LF */
    MESSAGE_END = LINE_MAX_BYTES - 1024, /* end of the message; the rest is for fields */
    MESSAGE_MAX = 2048,
    PENDING_MAX = 65536,
};

enum how {
    HOW_UNKNOWN, /* the descriptor has not been examined yet */
    HOW_PLAIN,   /* a file: write takes everything */
    HOW_SOCKET,  /* send with MSG_DONTWAIT */
    HOW_OWN,     /* a pipe or terminal, through our own non-blocking open file */
    HOW_POLL,    /* a pipe or terminal that could not be opened again */
};

static struct {
    enum log_level level;
    enum log_format format;
    int fd;  /* as given; we must not close it */
    int own; /* for HOW_OWN; we close it */
    enum how how;
    uint64_t dropped, unreported;
    size_t start, end; /* the lines that wait are pending[start, end) */
    char pending[PENDING_MAX];
} logger = {.level = LOG_INFO, .format = LOG_FORMAT_TEXT, .fd = STDERR_FILENO, .own = -1};

static const char *const level_names[] = {"trace", "debug", "info", "warn", "error", "fatal"};

void log_set_level(enum log_level level)
{
    logger.level = level;
}

enum log_level log_get_level(void)
{
    return logger.level;
}

bool log_enabled(enum log_level level)
{
    return level >= logger.level;
}

const char *log_level_name(enum log_level level)
{
    return level_names[level];
}

int log_level_parse(struct str name, enum log_level *level)
{
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
        if (str_ieq(name, level_names[i])) {
            *level = (enum log_level)i;
            return OK;
        }
    }
    return ERR;
}

uint64_t log_dropped(void)
{
    return logger.dropped;
}

/* ---- one line ---- */

/* A line under construction. Text stops at `limit`, so that there is room for what must follow
 * it. */
struct line {
    size_t n, limit;
    char text[LINE_MAX_BYTES];
};

/* Appends all of s, or returns false and appends nothing. */
static bool put(struct line *l, const char *s, size_t n)
{
    if (l->n + n > l->limit) {
        return false;
    }
    memcpy(l->text + l->n, s, n);
    l->n += n;
    return true;
}

static bool put_str(struct line *l, const char *s)
{
    return put(l, s, strlen(s));
}

/* Finds control characters of ASCII and of Unicode (U+0080 to U+009F): terminals obey both. */
static bool is_control(struct str s, size_t n)
{
    unsigned char c = (unsigned char)s.p[0];
    if (n == 1) {
        return c < 0x20 || c == 0x7F;
    }
    return n == 2 && c == 0xC2 && (unsigned char)s.p[1] < 0xA0;
}

/* Appends a control character as an escape of JSON. */
static bool put_escape(struct line *l, unsigned char c)
{
    char escape[8];
    if (c == '\n' || c == '\t') {
        return put_str(l, c == '\n' ? "\\n" : "\\t");
    }
    text_fmt(escape, sizeof(escape), "\\u%04x", c);
    return put_str(l, escape);
}

/* Appends the characters of s as content of a JSON string (RFC 8259 section 7); a byte that is not
 * UTF-8 becomes U+FFFD. Stops at the limit. */
static void put_json(struct line *l, struct str s)
{
    while (s.n) {
        size_t n = text_utf8_length(s);
        bool room;
        if (n == 0) {
            room = put_str(l, "\\ufffd");
            n = 1;
        } else if (is_control(s, n)) {
            room = put_escape(l, (unsigned char)s.p[n - 1]);
        } else if (s.p[0] == '"' || s.p[0] == '\\') {
            room = put(l, (char[]){'\\', s.p[0]}, 2);
        } else {
            room = put(l, s.p, n);
        }
        if (!room) {
            return;
        }
        s.p += n;
        s.n -= n;
    }
}

/* Appends the characters of s for people, with '?' in place of those that cannot be printed. Stops
 * at the limit. */
static void put_printable(struct line *l, struct str s, bool quoted)
{
    while (s.n) {
        size_t n = text_utf8_length(s);
        bool room;
        if (n == 0 || is_control(s, n)) {
            room = put_str(l, "?");
        } else if (quoted && (s.p[0] == '"' || s.p[0] == '\\')) {
            room = put(l, (char[]){'\\', s.p[0]}, 2);
        } else {
            room = put(l, s.p, n);
        }
        if (!room) {
            return;
        }
        n = n ? n : 1;
        s.p += n;
        s.n -= n;
    }
}

/* Tells whether a value needs quotes to be told from the text around it. */
static bool needs_quotes(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == ' ' || s.p[i] == '"' || s.p[i] == '=' || s.p[i] == '\\') {
            return true;
        }
    }
    return s.n == 0;
}

/* Returns the real time as in RFC 3339, UTC, with milliseconds. The text of a second is formatted
 * once. */
static const char *timestamp(void)
{
    static time_t second = -1;
    static char text[sizeof("2026-11-23T20:13:18.123Z")];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec != second) {
        struct tm tm;
        gmtime_r(&now.tv_sec, &tm);
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S.000Z", &tm);
        second = now.tv_sec;
    }
    int ms = (int)(now.tv_nsec / 1000000);
    text[20] = (char)('0' + ms / 100);
    text[21] = (char)('0' + ms / 10 % 10);
    text[22] = (char)('0' + ms % 10);
    return text;
}

static void field_json(struct line *l, const struct log_field *f)
{
    char num[24];
    size_t before = l->n;
    bool room = put_str(l, ",\"");
    put_json(l, str_of(f->key));
    if (f->str) {
        room = put_str(l, "\":\"") && room;
        l->limit--; /* keeps room for the closing quote */
        put_json(l, str_of(f->str));
        l->limit++;
        room = put_str(l, "\"") && room;
    } else {
        text_fmt(num, sizeof(num), "\":%lld", (long long)f->num);
        room = put_str(l, num) && room;
    }
    if (!room) {
        l->n = before;
    }
}

static void field_text(struct line *l, const struct log_field *f)
{
    char num[24];
    size_t before = l->n;
    bool room = put_str(l, " ") && put_str(l, f->key) && put_str(l, "=");
    if (!f->str) {
        text_fmt(num, sizeof(num), "%lld", (long long)f->num);
        room = room && put_str(l, num);
    } else if (needs_quotes(str_of(f->str))) {
        room = room && put_str(l, "\"");
        l->limit--;
        put_printable(l, str_of(f->str), true);
        l->limit++;
        room = put_str(l, "\"") && room;
    } else {
        put_printable(l, str_of(f->str), false);
    }
    if (!room) {
        l->n = before;
    }
}

static void line_json(struct line *l, enum log_level level, const char *module, struct str message,
                      const struct log_field *fields, size_t n)
{
    l->limit = LINE_MAX_BYTES - 2; /* for "}\n" */
    put_str(l, "{\"time\":\"");
    put_str(l, timestamp());
    put_str(l, "\",\"level\":\"");
    put_str(l, level_names[level]);
    put_str(l, "\",\"module\":\"");
    put_str(l, module);
    put_str(l, "\",\"msg\":\"");
    l->limit = MESSAGE_END;
    put_json(l, message);
    l->limit = LINE_MAX_BYTES - 2;
    put_str(l, "\"");
    for (size_t i = 0; i < n; i++) {
        field_json(l, &fields[i]);
    }
    l->limit += 2;
    put_str(l, "}\n");
}

static void line_text(struct line *l, enum log_level level, const char *module, struct str message,
                      const struct log_field *fields, size_t n)
{
    l->limit = LINE_MAX_BYTES - 1; /* for the LF */
    put_str(l, timestamp());
    put_str(l, " ");
    put_str(l, level_names[level]);
    put_str(l, strlen(level_names[level]) < 5 ? "  " : " ");
    put_str(l, module);
    put_str(l, ": ");
    l->limit = MESSAGE_END;
    put_printable(l, message, false);
    l->limit = LINE_MAX_BYTES - 1;
    for (size_t i = 0; i < n; i++) {
        field_text(l, &fields[i]);
    }
    l->limit++;
    put_str(l, "\n");
}

/* ---- gathering ---- */

/* Adds a line to those that wait. Returns false when it does not fit. */
static bool gather(enum log_level level, const char *module, struct str message,
                   const struct log_field *fields, size_t n)
{
    struct line l;
    l.n = 0;
    if (logger.format == LOG_FORMAT_JSON) {
        line_json(&l, level, module, message, fields, n);
    } else {
        line_text(&l, level, module, message, fields, n);
    }
    if (l.n > PENDING_MAX - logger.end && logger.start > 0) {
        memmove(logger.pending, logger.pending + logger.start, logger.end - logger.start);
        logger.end -= logger.start;
        logger.start = 0;
    }
    if (l.n > PENDING_MAX - logger.end) {
        return false;
    }
    memcpy(logger.pending + logger.end, l.text, l.n);
    logger.end += l.n;
    return true;
}

/* Writes how many lines are missing at this place, once half of the buffer is free, so that a slow
 * reader gets stretches of lines rather than a notice between every two. Returns false while it
 * cannot. */
static bool report_dropped(void)
{
    if (logger.unreported == 0) {
        return true;
    }
    if (logger.end - logger.start > PENDING_MAX / 2) {
        return false;
    }
    char text[64];
    text_fmt(text, sizeof(text), "%llu log lines dropped", (unsigned long long)logger.unreported);
    if (!gather(LOG_WARN, "log", str_of(text), NULL, 0)) {
        return false;
    }
    logger.unreported = 0;
    return true;
}

static void count_dropped(uint64_t n)
{
    logger.dropped += n;
    logger.unreported += n;
}

void log_fields(enum log_level level, const char *module, const struct log_field *fields, size_t n,
                const char *fmt, ...)
{
    if (level < logger.level) {
        return;
    }
    char message[MESSAGE_MAX];
    va_list ap;
    va_start(ap, fmt);
    int wanted = vsnprintf(message, sizeof(message), fmt, ap);
    va_end(ap);
    size_t length = wanted < 0 ? 0 : (size_t)wanted;
    if (length >= sizeof(message)) {
        /* Cut the text between two characters. */
        length = sizeof(message) - 1;
        while (length && ((unsigned char)message[length - 1] & 0xC0) == 0x80) {
            length--;
        }
        length -= length && (unsigned char)message[length - 1] >= 0xC0;
    }
    if (!report_dropped() || !gather(level, module, (struct str){message, length}, fields, n)) {
        count_dropped(1);
    }
}

/* ---- writing ---- */

static void look_at_descriptor(void)
{
    struct stat st;
    logger.how = HOW_PLAIN;
    if (fstat(logger.fd, &st) < 0) {
        return;
    }
    if (S_ISSOCK(st.st_mode)) {
        logger.how = HOW_SOCKET;
    } else if (S_ISFIFO(st.st_mode) || isatty(logger.fd)) {
        char path[32];
        text_fmt(path, sizeof(path), "/proc/self/fd/%d", logger.fd);
        logger.own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        logger.how = logger.own >= 0 ? HOW_OWN : HOW_POLL;
    }
}

void log_open(int fd, enum log_format format)
{
    log_flush();
    if (logger.own >= 0) {
        close(logger.own);
        logger.own = -1;
    }
    logger.fd = fd;
    logger.format = format;
    logger.how = HOW_UNKNOWN;
}

/* Returns the length of as many whole lines as a pipe takes in one piece. */
static size_t piece(const char *p, size_t n)
{
    if (n <= PIPE_BUF) {
        return n;
    }
    const char *lf = memrchr(p, '\n', PIPE_BUF);
    return lf ? (size_t)(lf - p) + 1 : PIPE_BUF;
}

/* Writes once without blocking. Returns -1 with EAGAIN when the reader has to read first. */
static ssize_t write_some(const char *p, size_t n)
{
    struct pollfd can = {.fd = logger.fd, .events = POLLOUT};
    switch (logger.how) {
    case HOW_UNKNOWN:
    case HOW_PLAIN:
        return write(logger.fd, p, n);
    case HOW_SOCKET:
        return send(logger.fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    case HOW_OWN:
        return write(logger.own, p, piece(p, n));
    case HOW_POLL:
        if (poll(&can, 1, 0) == 0) {
            errno = EAGAIN;
            return -1;
        }
        return write(logger.fd, p, piece(p, n));
    }
    return -1;
}

/* Drops the lines that wait, because the descriptor is broken. */
static void drop_pending(void)
{
    for (size_t i = logger.start; i < logger.end; i++) {
        count_dropped(logger.pending[i] == '\n');
    }
    logger.start = logger.end = 0;
}

int log_flush(void)
{
    if (logger.how == HOW_UNKNOWN && logger.start < logger.end) {
        look_at_descriptor();
    }
    while (logger.start < logger.end) {
        ssize_t n = write_some(logger.pending + logger.start, logger.end - logger.start);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return AGAIN;
        }
        if (n <= 0) {
            drop_pending();
            return OK;
        }
        logger.start += (size_t)n;
        if (logger.start == logger.end) {
            logger.start = logger.end = 0;
            report_dropped();
        }
    }
    return OK;
}

void log_flush_wait(void)
{
    enum { ROUNDS = 20, ROUND_MS = 50 };
    for (int i = 0; i < ROUNDS && log_flush() == AGAIN; i++) {
        struct pollfd can = {.fd = logger.fd, .events = POLLOUT};
        poll(&can, 1, ROUND_MS);
    }
}

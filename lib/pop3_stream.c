/* Finds the facts about the bytes that a relay of POP3 needs. */
#include "lib/pop3_stream.h"

#include <string.h>

static const char marker[] = "\r\n.\r\n";
static const char quit[] = "quit";

/* The place of the next byte in its line. A value n below BEHIND_QUIT means: behind n letters of
 * `quit`. */
enum { BEHIND_QUIT = sizeof(quit) - 1, IN_ARGUMENTS, IN_OTHER_LINE };

struct str pop3_end_marker(void)
{
    return str_of(marker);
}

size_t pop3_begun_marker(struct str s)
{
    size_t n = sizeof(marker) - 1;
    while (n > 0 && (s.n < n || memcmp(s.p + s.n - n, marker, n) != 0)) {
        n--;
    }
    return n == sizeof(marker) - 1 ? 0 : n;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* Returns the place after one more byte of the line. */
static unsigned char next(unsigned at, char c)
{
    if (at < BEHIND_QUIT && (c | 0x20) == quit[at]) {
        return (unsigned char)(at + 1);
    }
    if (at == IN_ARGUMENTS || (at == BEHIND_QUIT && is_blank(c))) {
        return IN_ARGUMENTS;
    }
    return at == 0 && is_blank(c) ? 0 : IN_OTHER_LINE;
}

void pop3_said_add(struct pop3_said *said, struct str s)
{
    for (size_t i = 0; i < s.n && !said->quit; i++) {
        if (s.p[i] == '\n') {
            said->quit = said->at == BEHIND_QUIT || said->at == IN_ARGUMENTS;
            said->at = 0;
        } else {
            said->at = next(said->at, s.p[i]);
        }
    }
}

/* The two facts that a relay of POP3 has to know about the bytes that it passes on (RFC 1939):
 * where a multi-line answer ends, and whether the client has said QUIT. Pure. */
#ifndef TPROXY_LIB_POP3_STREAM_H
#define TPROXY_LIB_POP3_STREAM_H

#include <stdbool.h>

#include "lib/text.h"

/* Returns the end of a multi-line answer: CRLF . CRLF (section 3). */
struct str pop3_end_marker(void);

/* Returns how many bytes at the end of s are the beginning of an end marker; 0 for a whole one. */
size_t pop3_begun_marker(struct str s);

/* The state of reading the client's bytes. Zero-initialise. */
struct pop3_said {
    bool quit; /* a complete line has been QUIT: the server reads no further */
    unsigned char at;
};

/* Takes in the client's next bytes. A line ends with CRLF or LF. It is QUIT in any case of its
 * letters, with blanks around it, and with arguments, which servers treat in different ways. */
void pop3_said_add(struct pop3_said *said, struct str s);

#endif

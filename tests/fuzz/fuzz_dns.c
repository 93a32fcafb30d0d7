/* Fuzzes the answers of name servers. The target puts the right id in front, because the fuzzer
 * could only guess it. The first byte chooses the question. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/dns_msg.h"

enum { ID = 0x1234 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dns_answer answer;
    if (size < 1) {
        return 0;
    }
    enum dns_type type = data[0] & 1 ? DNS_TYPE_AAAA : DNS_TYPE_A;
    size_t n = size + 1;
    unsigned char *msg = malloc(n);
    msg[0] = ID >> 8;
    msg[1] = ID & 0xFF;
    memcpy(msg + 2, data + 1, size - 1);
    if (dns_msg_answer(msg, n, ID, "mail.example", type, &answer) == OK) {
        int family = type == DNS_TYPE_A ? AF_INET : AF_INET6;
        if ((answer.outcome == DNS_ADDRESSES) != (answer.n > 0) || answer.n > DNS_MAX_ADDRS ||
            (answer.outcome == DNS_SERVER_FAILED && !answer.problem)) {
            abort();
        }
        for (size_t i = 0; i < answer.n; i++) {
            union addr again;
            struct addr_text text = addr_text(&answer.addrs[i]);
            if (answer.addrs[i].sa.sa_family != family ||
                addr_parse(str_of(text.s), &again) != OK ||
                memcmp(&again, &answer.addrs[i], sizeof(again)) != 0) {
                abort();
            }
        }
    }
    free(msg);
    return 0;
}

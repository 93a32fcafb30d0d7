/* Answers `tproxy probe` in the running process. */
#ifndef TPROXY_TPROXY_PROBE_SERVER_H
#define TPROXY_TPROXY_PROBE_SERVER_H

#include "admin/control_socket.h"

struct pop3;

/* Returns the handler that probes targets. Its lines have fields between tabs:
 *   step <microseconds> <name of the step> <"ok", or the class of the failure> <text>
 *        [<name of a detail> <its value>]...
 *   end  <"ok", or the class of the failure> <text>
 * `pop3` stays the caller's and must outlive the control socket. */
struct control_socket_handler probe_server_handler(struct pop3 *pop3);

#endif

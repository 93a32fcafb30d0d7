/* The sub-command `cleanup`: removes what an installation has made. */
#ifndef TPROXY_TPROXY_CLEANUP_H
#define TPROXY_TPROXY_CLEANUP_H

/* Runs the sub-command, argv[0] being its word: prints a line for each object on standard output,
 * and errors on standard error. Returns the exit code: 0 when everything is gone, 1 when something
 * stays. Ends the process with exit code 2 for flags that make no sense. */
int cleanup_command(int argc, char **argv);

#endif

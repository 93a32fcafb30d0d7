/* Runs tls_peer.py, the TLS servers of a test, as a child process. */
#include "tests/unit/world/tls_peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base.h"
#include "lib/text.h"

static struct {
    char directory[32];
    pid_t pid;
    int input;
    struct {
        char name[32];
        int port;
    } servers[32];
    size_t count;
} tls_peer = {.directory = "/tmp/tls_peer.XXXXXX"};

void tls_peer_path(char *out, size_t cap, const char *file)
{
    text_fmt(out, cap, "%s/%s", tls_peer.directory, file);
}

static void tls_peer_run(const int *in, const int *out)
{
    char script[] = __FILE__, path[sizeof(script) + 16];
    char *slash = strrchr(script, '/');
    *slash = '\0';
    text_fmt(path, sizeof(path), "%s/tls_peer.py", script);
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    close(in[1]);
    close(out[0]);
    execlp("python3", "python3", path, tls_peer.directory, (char *)NULL);
    _exit(127);
}

int tls_peer_start(void)
{
    int in[2], out[2];
    char line[64];
    if (!mkdtemp(tls_peer.directory) || pipe(in) || pipe(out)) {
        return ERR;
    }
    tls_peer.pid = fork();
    if (tls_peer.pid == 0) {
        tls_peer_run(in, out);
    }
    close(in[0]);
    close(out[1]);
    tls_peer.input = in[1];
    FILE *f = fdopen(out[0], "r");
    while (fgets(line, sizeof(line), f) && strcmp(line, "ready\n") != 0) {
        if (tls_peer.count == ARRAY_LEN(tls_peer.servers) ||
            sscanf(line, "%31s %d", tls_peer.servers[tls_peer.count].name,
                   &tls_peer.servers[tls_peer.count].port) != 2) {
            return ERR;
        }
        tls_peer.count++;
    }
    fclose(f);
    return OK;
}

int tls_peer_stop(void)
{
    char command[64];
    close(tls_peer.input);
    waitpid(tls_peer.pid, NULL, 0);
    text_fmt(command, sizeof(command), "rm -rf %s", tls_peer.directory);
    return system(command);
}

uint16_t tls_peer_port(const char *server)
{
    for (size_t i = 0; i < tls_peer.count; i++) {
        if (strcmp(tls_peer.servers[i].name, server) == 0) {
            return (uint16_t)tls_peer.servers[i].port;
        }
    }
    return 0;
}

/* as-engine COMMAND [ARGUMENT…]: becomes the engine's user and then the command, in the same process. */
#include <grp.h>
#include <stdio.h>
#include <unistd.h>

#define ENGINE 999

int main(int argc, char **argv) {
  if (argc < 2) return 64;
  if (setgroups(0, 0) || setgid(ENGINE) || setuid(ENGINE)) { perror("as-engine"); return 1; }
  execvp(argv[1], argv + 1);
  perror(argv[1]);
  return 127;
}

// SPDX-License-Identifier: MIT
// Run by the build: completion bash|zsh PROGRAM prints the file that makes that shell complete the program.
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "scripts/completion/program.h"

int main(int argc, char** argv) {
  namespace completion = smbdirect::completion;
  const std::string_view shell = argc == 3 ? argv[1] : "";
  if (shell == "bash" || shell == "zsh") {
    for (const completion::Program& program : completion::programs()) {
      if (program.name != argv[2]) continue;
      const std::string text = shell == "bash" ? bash_script(program) : zsh_script(program);
      return std::fputs(text.c_str(), stdout) < 0;
    }
  }
  std::fputs("usage: completion bash|zsh PROGRAM\n", stderr);
  return 2;
}

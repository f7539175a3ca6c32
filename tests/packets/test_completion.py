"""completion: the scripts in the shells that they are for; zsh and fish only where they are installed."""
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time

from lib.case import *
from lib.program import VIPMAP


def run(b, shell):
    status, out, err = b.program.run("completion", shell)
    b.equal("completion " + shell, (0, ""), (status, err))
    return out


@case("bash completes commands, their words and all flags", "")
def completion(b):
    def complete(*words):
        script = 'source <("$0" completion bash); COMP_WORDS=(vipmap "$@"); COMP_CWORD=$#; _vipmap; echo ${COMPREPLY[@]}'
        done = subprocess.run(["bash", "-c", script, VIPMAP, *words], capture_output=True, text=True, timeout=20)
        b.equal("stderr", "", done.stderr)
        return done.stdout.split()
    b.equal("commands", ["get"], complete("ge"))
    b.equal("words", ["services"], complete("get", "s"))
    b.equal("flags of a command", ["--namespace"], complete("get", "services", "--na"))
    b.equal("flags of the program", ["--cluster-cidr", "--cleanup"][::-1], sorted(complete("--cl")))
    status, out, _ = b.program.run("--help")
    flags = set(re.findall(r"(?m)^ +(--[a-z0-9-]+)", out))
    b.equal("all of them", set(), flags - set(complete("--")))
    b.equal("where objects come from", ["--kubeconfig"], complete("explain", "--kubec"))
    b.equal("not of a command that asks what runs", [], complete("status", "--kubec"))
    b.true("a wrong shell", "did you mean fish?" in b.program.run("completion", "fich")[2])


class Zsh:
    """An interactive one on a terminal of its own, with an empty home."""

    def __init__(self, b, folder, begin):
        self.b, self.home = b, tempfile.mkdtemp(prefix="vpkt-zsh-")
        with open(os.path.join(self.home, ".zshrc"), "w") as f:
            f.write("unset zle_bracketed_paste; PROMPT='ready> '; zstyle ':completion:*' list-prompt ''\n"
                    "fpath=(%s $fpath)\nautoload -U compinit; compinit -u -D\n%s\n" % (folder, begin))
        env = {"HOME": self.home, "ZDOTDIR": self.home, "TERM": "dumb", "LC_ALL": "C.UTF-8",
               "PATH": os.path.dirname(os.path.abspath(VIPMAP)) + ":" + os.environ["PATH"]}
        self.pid, self.fd = pty.fork()
        if not self.pid:
            try:
                os.execvpe("zsh", ["zsh", "-i"], env)
            finally:
                os._exit(127)
        self.text = ""
        self.until(lambda: self.text.rstrip().endswith("ready>"), "a prompt")

    def until(self, done, what):
        deadline = time.monotonic() + 30 * probe.SLOW
        while not done():
            if not select.select([self.fd], [], [], max(0, deadline - time.monotonic()))[0]:
                self.b.fail(what, "it comes", self.text)
            self.text += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", os.read(self.fd, 65536).decode(errors="replace"))

    def complete(self, begun, end):
        """Types it and a tab; waits until the line ends so."""
        self.text = ""
        os.write(self.fd, (begun + "\t").encode())
        self.until(lambda: self.text.rstrip().endswith(end), "%s -> %s" % (begun, end))
        os.write(self.fd, b"\x15")  # the line is thrown away

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)
        shutil.rmtree(self.home)


@case("zsh completes, from a folder of functions and sourced", "")
def completion_zsh(b):
    if not shutil.which("zsh"):
        raise Skip("no zsh here")
    folder = tempfile.mkdtemp(prefix="vpkt-fpath-")
    try:
        path = os.path.join(folder, "_vipmap")
        with open(path, "w") as f:
            f.write(run(b, "zsh"))
        done = subprocess.run(["zsh", "-n", path], capture_output=True, text=True)
        b.equal("syntax", (0, ""), (done.returncode, done.stderr))
        for where, begin in ((folder, ""), ("", "source " + path), ("", "source <(vipmap completion zsh)")):
            shell = Zsh(b, where, begin)
            try:
                shell.complete("vipmap prefl", "vipmap preflight")
                shell.complete("vipmap get serv", "vipmap get services")
                shell.complete("vipmap get services --names", "vipmap get services --namespace")
                shell.complete("vipmap explain --kubec", "vipmap explain --kubeconfig")
                shell.complete("vipmap --clu", "vipmap --cluster-cidr")
                shell.complete("vipmap --config %s/.zsh" % shell.home, "/.zshrc")
            finally:
                shell.close()
    finally:
        shutil.rmtree(folder)


@case("fish completes commands, their words, flags and files", "")
def completion_fish(b):
    if not shutil.which("fish"):
        raise Skip("no fish here")
    home = tempfile.mkdtemp(prefix="vpkt-fish-")
    try:
        path = os.path.join(home, "vipmap.fish")
        with open(path, "w") as f:
            f.write(run(b, "fish"))

        def complete(line):
            done = subprocess.run(["fish", "--no-config", "-c", "source %s; complete -C '%s'" % (path, line)],
                                  capture_output=True, text=True, env={**os.environ, "HOME": home}, timeout=60)
            b.equal("stderr", "", done.stderr)
            return done.stdout.split()
        b.equal("commands", ["get"], complete("vipmap ge"))
        b.equal("words", ["services"], complete("vipmap get s"))
        b.equal("flags of a command", ["--namespace"], complete("vipmap get services --names"))
        b.equal("flags of the program", ["--cleanup", "--cluster-cidr"], complete("vipmap --cl"))
        b.equal("where objects come from", ["--kubeconfig"], complete("vipmap explain --kubec"))
        b.equal("not of a command that asks what runs", [], complete("vipmap status --kubec"))
        b.equal("a file", [path], complete("vipmap --config %s/vip" % home))
    finally:
        shutil.rmtree(home)

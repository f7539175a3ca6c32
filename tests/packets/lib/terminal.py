"""A command on a pseudo-terminal, and what its screen shows. The terminal knows what top uses and nothing else: an
unknown sequence is a failure."""
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

from .program import VIPMAP
from .probe import SLOW

SETTLING = 0.4  # seconds after a change of size in which a frame for the former size may still come
SEQUENCE = re.compile(rb"\x1b\[([?]?[0-9]*)([A-Za-z])")


class Terminal:
    def __init__(self, program, argv, rows=24, columns=100, env=()):
        self.master, self.slave = pty.openpty()
        self.resize(rows, columns, tell=False)
        self.before = termios.tcgetattr(self.slave)
        self.alternate = self.hidden = self.reverse = False
        self.colours = 0  # times that something was made conspicuous
        self.row = self.column = 0
        self.lines = []
        self.rest = b""
        self.plain = b""  # what came outside of the alternate screen
        self.pattern = ""

        def enter():
            os.setsid()
            fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
            program.enter()
        self.process = subprocess.Popen(
            [VIPMAP, *argv], stdin=self.slave, stdout=self.slave, stderr=self.slave, preexec_fn=enter,
            env={**os.environ, "TERM": "xterm", "LANG": "C.UTF-8", "LC_ALL": "", "LC_CTYPE": "", **dict(env)})

    def resize(self, rows, columns, tell=True):
        self.rows, self.columns = rows, columns
        self.settled = time.monotonic() + SETTLING * SLOW
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if tell:
            self.lines = []

    def type(self, text):
        os.write(self.master, text.encode() if isinstance(text, str) else text)

    def read(self, seconds):
        """Whatever comes within @seconds, as far as it came."""
        if select.select([self.master], [], [], seconds)[0]:
            try:
                self.take(os.read(self.master, 65536))
            except OSError:
                return False
        return True

    def take(self, data):
        data = self.rest + data
        self.rest = b""
        while data:
            if data[:1] == b"\x1b":
                m = SEQUENCE.match(data)
                if not m:
                    if len(data) < 8:
                        self.rest = data
                        return
                    raise AssertionError("unknown sequence %r" % data[:16])
                self.sequence(m.group(1).decode() + m.group(2).decode())
                data = data[m.end():]
            elif data[:1] == b"\r":
                self.column = 0
                data = data[1:]
            elif data[:1] == b"\n":
                self.row += 1
                self.plain += b"\n" if not self.alternate else b""
                data = data[1:]
            else:
                end = min([i for i in (data.find(b"\x1b"), data.find(b"\r"), data.find(b"\n")) if i >= 0], default=len(data))
                try:
                    text = data[:end].decode()
                except UnicodeDecodeError as e:
                    if end < len(data) or e.start < end - 3:
                        raise
                    end = e.start
                    if not end:
                        self.rest = data
                        return
                    text = data[:end].decode()
                self.put(text)
                data = data[end:]

    def put(self, text):
        if not self.alternate:
            self.plain += text.encode()
            return
        fits = self.row < self.rows and self.column + len(text) <= self.columns
        if not fits and time.monotonic() < self.settled:
            return  # of a frame that was under way
        assert fits, "beyond the screen: %d %r" % (self.row, text)
        while len(self.lines) <= self.row:
            self.lines.append("")
        line = self.lines[self.row].ljust(self.column)
        self.lines[self.row] = line[:self.column] + text + line[self.column + len(text):]
        self.column += len(text)

    def sequence(self, s):
        if s in ("?1049h", "?1049l"):
            self.alternate = s.endswith("h")
        elif s in ("?25h", "?25l"):
            self.hidden = s.endswith("l")
        elif s == "2J":
            self.lines = []
        elif s == "H":
            self.row = self.column = 0
        elif s == "K":
            self.lines[self.row:self.row + 1] = [self.lines[self.row][:self.column]] if self.row < len(self.lines) else []
        elif s == "J":
            del self.lines[self.row:]
        elif s in ("7m", "0m"):
            self.colours += s == "7m"
        else:
            raise AssertionError("unknown sequence ESC [ " + s)

    def text(self):
        return "\n".join(line.rstrip() for line in self.lines)

    def until(self, b, what, get, seconds=10):
        """get() of the screen becomes true; its value."""
        deadline = time.monotonic() + seconds * SLOW
        while True:
            value = get()
            if value:
                return value
            if time.monotonic() > deadline or not self.read(0.05):
                b.fail(what, "true", "screen:\n%s\noutside: %r" % (self.text(), self.plain))

    def shows(self, b, pattern, seconds=10):
        return self.until(b, pattern, lambda: re.search(pattern, self.text(), re.M), seconds)

    def end(self, b, want, seconds=10):
        """It ends by itself; the terminal is as it was. What it said outside of the screen."""
        deadline = time.monotonic() + seconds * SLOW
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read(0.05)
        while select.select([self.master], [], [], 0)[0] and self.read(0):
            pass
        b.equal("exit status; " + self.plain.decode(), want, self.process.poll())
        b.equal("alternate screen, hidden cursor", (False, False), (self.alternate, self.hidden))
        b.equal("terminal's settings", self.before, termios.tcgetattr(self.slave))
        return self.plain.decode()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

"""Under a service manager: what it is told, what make install gives it, and what that unit may do."""
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from lib import program
from lib.apiserver import TOP, api
from lib.case import *

UNIT = "usr/lib/systemd/system/vipmap.service"


class Manager:
    """The socket at which a service manager listens; the program inherits its name. An abstract one would be another
    in the node's namespace."""

    def __init__(self, **more):
        self.name = os.path.join(tempfile.mkdtemp(prefix="vpkt-notify-"), "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.name)
        self.env = {"NOTIFY_SOCKET": self.name, **more}

    def __enter__(self):
        os.environ.update(self.env)
        return self

    def __exit__(self, *exc):
        for name in self.env:
            os.environ.pop(name, None)
        self.socket.close()
        shutil.rmtree(os.path.dirname(self.name))

    def hears(self, seconds):
        """The next datagram that is no heartbeat, as a dict; None: nothing within @seconds."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.datagram(deadline - time.monotonic())
            if found is None or "WATCHDOG" not in found:
                return found

    def datagram(self, seconds):
        self.socket.settimeout(max(seconds, 0.001))
        try:
            text = self.socket.recv(4096).decode()
        except (socket.timeout, BlockingIOError):
            return None
        return dict(line.split("=", 1) for line in text.splitlines())


def monotonic_us():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


@case("a service manager hears of readiness, reloads and the end", "")
def told(b):
    config = '{"apiVersion":"kubeproxy.config.k8s.io/v1alpha1","kind":"KubeProxyConfiguration","mode":"%s","clusterCIDR":"%s"}'
    path = b.program.file("config.json", config % ("nftables", "10.180.0.0/16"))
    with Manager() as manager:
        b.start(both("web", 11, ["pod1", "r1"]), "--config", path)
        said = manager.hears(5)
        b.equal("READY", "1", said.get("READY"))
        b.true("the status %s" % said, re.fullmatch(r"\d+ service ports with \d+ endpoints are programmed", said["STATUS"]))
        b.equal("nothing else", None, manager.hears(0.3))
        b.apply(both("web", 11, ["pod1"]))
        b.equal("fields at a change", {"STATUS"}, set(manager.hears(5)))
        for name, text in (("another range", ("nftables", "10.181.0.0/16")), ("a bad mode", ("ipvs", "10.181.0.0/16"))):
            b.program.file("config.json", config % text)
            began = monotonic_us()
            b.program.process.send_signal(signal.SIGHUP)
            said = manager.hears(5)
            b.equal("RELOADING with " + name, "1", said.get("RELOADING"))
            b.true("its time, %s" % said, began <= int(said["MONOTONIC_USEC"]) <= monotonic_us())
            said = manager.hears(5)
            b.equal("READY with " + name, "1", said.get("READY"))
            b.equal("refused", "ipvs" in text, "refused" in said["STATUS"])
            # the configuration is found changed by itself, too
            while manager.hears(2.5):
                pass
        b.equal("exit status", 0, b.stop(signal.SIGTERM))
        b.equal("at the end", {"STOPPING": "1"}, manager.hears(1))


@case("not ready before the first complete sync is in the kernel", "RUN-1")
def late(b):
    with api(b) as server, Manager() as manager:
        server.publish(base() + both("web", 11, ["pod1"]))
        server.tell("fault", how="stall", after=0, resource="endpointslices", times=9)
        b.program.launch(*DETECT)
        b.hears("Service: listed")
        b.equal("before the EndpointSlices", None, manager.hears(1))
        server.tell("clear_faults")
        server.tell("drop")
        b.equal("READY", "1", manager.hears(20).get("READY"))
        b.expect("client", "svc11:80", 4, "tcp", reach("pod1"))
        b.expect("client", "svc11:80", 6, "tcp", reach("pod1"))


@case("the watchdog hears that the loop runs, and that it stands still", "")
def watchdog(b):
    with Manager(WATCHDOG_USEC="200000") as manager:
        b.start(both("web", 11, ["pod1"]))
        began, beats = time.monotonic(), 0
        while time.monotonic() - began < 1:
            beats += "WATCHDOG" in (manager.datagram(1) or {})
        b.true("%d beats in a second" % beats, 5 <= beats <= 15, "about 10")
        b.program.process.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        while manager.datagram(0.001):
            pass
        b.equal("stopped", None, manager.datagram(0.5))
        b.program.process.send_signal(signal.SIGCONT)
        b.true("going on", "WATCHDOG" in (manager.datagram(1) or {}))


@case("a manager that is gone, and a name that is none", "")
def gone(b):
    os.environ["NOTIFY_SOCKET"] = "@vpkt-nobody"
    try:
        b.start(both("web", 11, ["pod1"]))
        b.expect("client", "svc11:80", 4, "tcp", reach("pod1"))
        b.equal("exit status", 0, b.stop(signal.SIGTERM))
        os.environ["NOTIFY_SOCKET"] = "relative"
        b.start(both("web", 11, ["pod1"]))
        b.hears("NOTIFY_SOCKET: relative: .*the service manager hears nothing")
        b.equal("exit status", 0, b.stop(signal.SIGTERM))
    finally:
        del os.environ["NOTIFY_SOCKET"]


def make(folder, *more):
    """The Makefile with the program that is tested, which is not built again."""
    out = os.path.dirname(os.path.abspath(program.VIPMAP))
    subprocess.run(["make", "-s", "-o", os.path.join(out, "vipmap"), "O=" + out, "DESTDIR=" + folder, "PREFIX=/usr", *more],
                   cwd=TOP, check=True, stdout=subprocess.DEVNULL)


def files(folder):
    return sorted(os.path.relpath(os.path.join(where, name), folder) for where, _, names in os.walk(folder) for name in names)


@case("make install gives what a manager needs, make uninstall takes it back", "")
def install(b):
    folder = tempfile.mkdtemp(prefix="vpkt-install-")
    try:
        want = ["usr/lib/sysusers.d/vipmap.conf", UNIT, "usr/sbin/vipmap", "usr/share/man/man7/vipmap-semantics.7",
                "usr/share/man/man8/vipmap.8", "usr/bin/kubectl-vipmap", "usr/share/man/man1/kubectl-vipmap.1",
                "usr/share/bash-completion/completions/vipmap", "usr/share/fish/vendor_completions.d/vipmap.fish",
                "usr/share/zsh/site-functions/_vipmap"]
        dropin = UNIT + ".d/notify-reload.conf"
        for version, more in (("252", []), ("253", [dropin]), ("257", [dropin])):
            make(folder, "install", "SYSTEMD=" + version)
            b.equal("files for systemd " + version, sorted(want + more), files(folder))
            with open(os.path.join(folder, UNIT)) as f:
                text = f.read()
            b.true("the unit's program", "\nExecStart=/usr/sbin/vipmap " in text and "@SBINDIR@" not in text)
            for path, begin in ((want[5], "#!/usr/bin/env python3"), (want[7], "_vipmap() {"), (want[8], "complete -c vipmap"),
                                (want[9], "#compdef vipmap\n")):
                with open(os.path.join(folder, path)) as f:
                    b.true(path, f.read().startswith(begin))
            make(folder, "uninstall")
            b.equal("left by uninstall", [], files(folder))
        make(folder, "install", "SYSTEMD=252")
        done = subprocess.run(["systemd-sysusers", "--root=" + folder, "--dry-run", os.path.join(folder, want[0])],
                              capture_output=True, text=True)
        b.equal("systemd-sysusers", 0, done.returncode)
    finally:
        shutil.rmtree(folder)


@case("the unit is clean, and may do little", "")
def unit(b):
    folder = tempfile.mkdtemp(prefix="vpkt-unit-")
    try:
        make(folder, "install", "SYSTEMD=252")
        path = os.path.join(folder, "vipmap.service")
        with open(os.path.join(folder, UNIT)) as f:
            text = f.read()
        # "verify" looks for the program; the user and the units of boot are this machine's business
        with open(path, "w") as f:
            f.write(text.replace("/usr/sbin/vipmap", os.path.join(folder, "usr/sbin/vipmap")))
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True)
        b.equal("systemd-analyze verify", (0, ""), (done.returncode, done.stderr))
        done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=16", "--no-pager", path],
                              capture_output=True, text=True)
        b.equal("an exposure of at most 1.6: %s" % done.stdout[-200:], 0, done.returncode)
        flags = subprocess.run([program.VIPMAP, "--help"], capture_output=True, text=True, check=True).stdout
        for flag in set(re.findall(r"vipmap .*?(--[a-z-]+)", text)) | set(re.findall(r" (--[a-z-]+)", text)):
            b.true("%s is a flag" % flag, flag in flags)
    finally:
        shutil.rmtree(folder)

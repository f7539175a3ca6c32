"""The Debian package ($PACKAGE, or what scripts/package makes): installed, upgraded under traffic, removed and purged, in a copy of this
machine's file system. No systemd runs there; what the package asks of it is noted, and done by the test as the unit says."""
import atexit
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

from lib.apiserver import TOP
from lib.case import *
from lib.program import Program
from lib.traffic import Traffic, wrong

built = {}
# enabling a unit is a matter of files
SYSTEMCTL = '''#!/bin/sh
case "$*" in
*preset*) exec /bin/systemctl "$@" ;;
esac
echo "$*" >>/run/systemctl.log
'''


def package():
    """(this version, the same as the next version)"""
    if not built:
        if "PACKAGE" in os.environ:
            path = os.environ["PACKAGE"]
        else:
            done = subprocess.run([os.path.join(TOP, "scripts/package")], capture_output=True, text=True)
            if done.returncode:
                raise Failure("scripts/package: %s" % (done.stdout[-1000:] + done.stderr[-2000:]))
            path = done.stdout.splitlines()[-1]
        folder = tempfile.mkdtemp(prefix="vpkt-deb-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        built["old"] = shutil.copy(path, folder)
        tree = os.path.join(folder, "tree")
        subprocess.run(["dpkg-deb", "-R", built["old"], tree], check=True)
        control = os.path.join(tree, "DEBIAN/control")
        with open(control) as f:
            text = f.read()
        with open(control, "w") as f:
            f.write(re.sub(r"(?m)^Version: (.*)$", r"Version: \1+next", text))
        built["new"] = os.path.join(folder, "next.deb")
        subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, built["new"]], check=True, stdout=subprocess.DEVNULL)
        built["folder"] = folder
    return built["old"], built["new"]


class Root:
    """This machine's files with changes kept apart, in a mount namespace that lives as long as a process."""

    def __init__(self):
        package()
        self.folder = tempfile.mkdtemp(prefix="vpkt-root-")
        self.root = os.path.join(self.folder, "root")
        script = """
            mount -t tmpfs none "$0" && cd "$0" && mkdir upper work root
            mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
            mount -t proc proc root/proc && mount --rbind /dev root/dev && mount -t tmpfs none root/run
            mkdir -p root/run/systemd/system root/run/deb root/run/manifests && mount --bind "$1" root/run/deb
            echo ready && exec sleep 1000
        """
        self.process = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, self.folder,
                                         built["folder"]], stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise Failure("no overlay of the file system")
        self.write("/usr/local/bin/systemctl", SYSTEMCTL, 0o755)
        self.run("rm", "-f", "/usr/sbin/policy-rc.d", "/etc/policy-rc.d")

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def words(self, *argv):
        return ["nsenter", "--mount=/proc/%d/ns/mnt" % self.process.pid, "chroot", self.root] + list(argv)

    def run(self, *argv, check=True, **more):
        done = subprocess.run(self.words(*argv), capture_output=True, text=True, timeout=120,
                              env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, **more)
        if check and done.returncode:
            raise Failure("%s: %d: %s" % (" ".join(argv), done.returncode, (done.stdout + done.stderr)[-2000:]))
        return done

    def write(self, path, text, mode=0o644):
        self.run("sh", "-ec", 'cat >"$0" && chmod %o "$0"' % mode, path, input=text)

    def asked(self):
        """What was asked of systemctl since the last time."""
        return self.run("sh", "-c", "cat /run/systemctl.log; rm -f /run/systemctl.log").stdout.splitlines()

    def dpkg(self, *argv):
        return self.run("dpkg", *argv)


class Installed(Program):
    """The daemon of the package, as the unit starts it: its user, its one capability."""

    def __init__(self, b, root):
        super().__init__(b.world)
        b.program.close()
        self.revision = b.program.revision
        self.root = root

    def write(self, objects):
        super().write(objects)
        with open(os.path.join(self.manifests, "objects.json")) as f:
            self.root.run("sh", "-ec", "cat >/run/manifests/.new && chmod 644 /run/manifests/.new && "
                          "mv /run/manifests/.new /run/manifests/objects.json", input=f.read())

    def argv(self, flags):
        return self.root.words("setpriv", "--reuid=vipmap", "--regid=vipmap", "--clear-groups", "--no-new-privs",
                               "--inh-caps=-all,+net_admin", "--ambient-caps=-all,+net_admin", "--bounding-set=-all,+net_admin",
                               "/usr/sbin/vipmap", "--manifests", "/run/manifests", "--hostname-override", "node1",
                               "--conntrack-max-per-core", "0", "--oom-score-adj", "0", *flags)


def web(endpoints):
    return both("web", 11, endpoints, kind="LoadBalancer", lb=["lb11"], nodeport=30080)


@case("the package is installed: user, folder, unit", "PACKAGE")
def install(b):
    root = Root()
    try:
        root.dpkg("-i", "/run/deb/" + os.path.basename(built["old"]))
        b.equal("asked of systemd", ["--system daemon-reload", "--no-block start vipmap.service"], root.asked())
        b.equal("the program's version is the package's", "vipmap " + root.run(
            "dpkg-query", "-W", "-f", "${Version}", "vipmap").stdout, root.run("vipmap", "--version").stdout.split(" (")[0].strip())
        b.equal("/etc/vipmap", "750 root vipmap", root.run("stat", "-c", "%a %U %G", "/etc/vipmap").stdout.strip())
        b.true("a user", ":/usr/sbin/nologin" in root.run("getent", "passwd", "vipmap").stdout)
        b.equal("enabled", 0, root.run("test", "-e", "/etc/systemd/system/multi-user.target.wants/vipmap.service",
                                       check=False).returncode)
        done = root.run("systemd-analyze", "verify", "/lib/systemd/system/vipmap.service", check=False)
        b.equal("systemd-analyze verify", (0, ""), (done.returncode, done.stderr))
        done = root.run("setpriv", "--reuid=vipmap", "--regid=vipmap", "--clear-groups", "sh", "-ec",
                        "vipmap --config /usr/share/doc/vipmap/examples/config.conf --write-config-to /tmp/vipmap-config && "
                        "cat /tmp/vipmap-config", check=False)
        b.equal("the example of a configuration", (0, ""), (done.returncode, done.stderr))
        b.true("its kubeconfig", "/etc/vipmap/kubeconfig.conf" in done.stdout)
        # an administrator who lets no package start services
        root.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)
        root.dpkg("-i", "/run/deb/" + os.path.basename(built["new"]))
        b.equal("asked under a policy", ["--system daemon-reload"], root.asked())
    finally:
        root.close()


@case("traffic goes on through an upgrade and a removal", "PACKAGE RUN-2 RUN-8")
def upgrade(b):
    root = Root()
    try:
        root.dpkg("-i", "/run/deb/" + os.path.basename(built["old"]))
        root.asked()
        b.program = Installed(b, root)
        b.start(web(["pod1", "r1"]))
        with open("/proc/%d/status" % b.program.process.pid) as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        b.true("not root", status["Uid"].split()[0] != "0")
        b.equal("capabilities", 1 << 12, int(status["CapEff"], 16))
        held = [b.connection("client", v, f) for f in both_families for v in ("svc11:80", "lb11:80", "node:30080")]
        first = [c.first for c in held]
        running = [(f, Traffic(b, "client", "svc11:80", f, 90, rate=200)) for f in both_families]
        root.dpkg("-i", "/run/deb/" + os.path.basename(built["new"]))
        b.equal("asked of systemd", ["--system daemon-reload", "--no-block try-restart vipmap.service"], root.asked())
        b.equal("the old program runs on", None, b.program.process.poll())
        b.equal("exit status", 0, b.stop(signal.SIGTERM))
        b.start(web(["pod1", "r1"]))
        b.apply(web(["r1"]))
        b.apply(web(["pod1", "r1"]))
        root.dpkg("-r", "vipmap")
        b.true("stopped when it is removed", any(re.search("stop.*vipmap.service", line) for line in root.asked()))
        b.equal("exit status", 0, b.stop(signal.SIGTERM))
        b.true("there was traffic all the time", all(t.running() for _, t in running))
        for f, traffic in running:
            traffic.stop()
            tally = traffic.tally()
            b.true("IPv%d: %d connections" % (f, sum(tally.values())), sum(tally.values()) > 1000)
            b.equal("IPv%d: answers that should not be" % f, {}, wrong(tally, f, ["pod1", "r1"]))
        b.equal("connections that are not what they were", first, [c.ask() for c in held])
        b.expect_both("svc11:80", "pod1", "r1")
        root.dpkg("-P", "vipmap")
        left = root.run("sh", "-c", "find /etc /lib/systemd /usr/sbin /usr/lib/sysusers.d /usr/share/doc /usr/share/man /var/lib/systemd "
                        "-name '*vipmap*'", check=False).stdout.split()
        b.equal("left of the package", [], left)
    finally:
        root.close()

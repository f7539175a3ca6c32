"""What goes beyond kube-proxy and is asked for in a VipmapConfiguration: Services without endpoints that pass, and what
they say about it themselves."""
import atexit
import contextlib
import os
import re
import signal
import socket
import struct
import tempfile
import threading

from lib import netns, packet, topology
from lib.case import *


def settings(text):
    """Flags with a VipmapConfiguration of @text."""
    fd, path = tempfile.mkstemp(prefix="vpkt-beyond-")
    with os.fdopen(fd, "w") as f:
        f.write("apiVersion: vipmap/v1alpha1\nkind: VipmapConfiguration\n" + text)
    atexit.register(os.unlink, path)
    return DETECT + ("--vipmap-config", path)


def says(objects, word):
    """@objects, whose Service has the annotation."""
    objects[0]["metadata"]["annotations"] = {"vipmap/no-endpoints": word}
    return objects


def balanced(name, n, endpoints, **more):
    return both(name, n, endpoints, kind="LoadBalancer", lb=["lb%d" % n], external=["ext%d" % n],
                nodeport=30080 + n, **more)


def nobody(word=None):
    """Services that are not alive in several ways, and some that are."""
    made = [balanced("none", 1, []),
            balanced("unready", 2, [unready("pod1")]),
            balanced("local", 3, [], etp="Local", itp="Local"),
            balanced("sticky", 4, [], affinity=100),
            balanced("ranged", 5, [], ranges=["192.168.1.0/24", "fd00:1::/64"]),
            balanced("elsewhere", 6, ["r1"], etp="Local"),
            balanced("alive", 7, ["pod1", "r1"])]
    return sum((says(m, word) if word else m for m in made), [])


def rows(passes):
    gone, ident = (UNTOUCHED, "BEY-2") if passes else (REFUSED, "BEY-2 VER-2")
    out = []
    for n in (1, 2, 3, 4, 5):
        for source in ("client", "pod2"):
            if n == 5 and source == "pod2":
                continue
            for vip in ("lb%d:80" % n, "ext%d:80" % n):
                out.append(Row("%s from %s" % (vip, source), ident, source, vip, gone, slim=n not in (1, 5)))
        out += [Row("ClusterIP %d" % n, "BEY-2", "client", "svc%d:80" % n, REFUSED, slim=n != 1),
                Row("node port %d" % n, "BEY-2", "client", "node:%d" % (30080 + n), REFUSED, slim=n != 1)]
    out += [Row("a host process", ident, "host", "lb1:80", gone),
            Row("source ranges come first", "BEY-2 VER-1", "client2", "lb5:80", DROPPED),
            Row("source ranges are of load balancer addresses", ident, "client2", "ext5:80", gone, slim=True),
            Row("alive elsewhere, Local: not REJECT before either", "BEY-2 VER-3", "client", "lb6:80", DROPPED),
            Row("alive", "BEY-2", "client", "lb7:80", reach("pod1", "r1", src="node"))]
    return out


group("noEndpoints Pass", nobody(), rows(True), flags=settings("noEndpoints: Pass\n"))
group("noEndpoints Reject, which is the default", nobody(), rows(False), flags=settings("noEndpoints: Reject\n"))
group("Reject, and Services say Pass", nobody("Pass"), rows(True))
group("Pass, and Services say Reject", nobody("Reject"), rows(False), flags=settings("noEndpoints: Pass\n"))
group("Pass, and Services say what nobody knows", nobody("pass"), rows(True), flags=settings("noEndpoints: Pass\n"))

# An address of the node that is an external IP, too: the node port of the same number is not looked at.
group("Pass, address before port number", says(both("own", 8, [], external=["node2"], ports=(30087,)), "Pass")
      + balanced("alive", 7, ["pod1"]), [
          Row("the external IP", "BEY-2 VER-14", "client", "node2:30087", UNTOUCHED),
          Row("the node port", "BEY-2", "client", "node:30087", reach("pod1"))])


@case("noEndpoints follows the file and the Service", "BEY-2 CFG-3", both_families, both_protos)
def follows(b, family, proto):
    flags = settings("noEndpoints: Pass\n")
    objects = balanced("none", 1, [])
    b.start(objects, *flags)
    b.eventually("client", "lb1:80", family, proto, UNTOUCHED)
    for text, want in (("Reject", REFUSED), ("Pass", UNTOUCHED)):
        with open(flags[-1], "w") as f:
            f.write("apiVersion: vipmap/v1alpha1\nkind: VipmapConfiguration\nnoEndpoints: %s\n" % text)
        b.program.process.send_signal(signal.SIGHUP)
        b.eventually("client", "lb1:80", family, proto, want)
    b.apply(says(objects, "Reject"))
    b.expect("client", "lb1:80", family, proto, REFUSED)
    b.apply(says(objects, "neither"))
    b.expect("client", "lb1:80", family, proto, UNTOUCHED)
    b.hears("Service default/none: metadata.annotations.*no-endpoints: 'neither' is neither Reject nor Pass")
    b.apply(says(balanced("none", 1, ["pod1"]), "Pass"))
    b.expect("client", "lb1:80", family, proto, reach("pod1"))
    b.apply(says(objects, "Pass"))
    b.expect("client", "lb1:80", family, proto, UNTOUCHED)
    status, out, err = b.program.run("explain", addr("client", family), proto, addr("lb1", family), "80")
    b.equal("exit status of explain; " + out + err, 0, status)
    b.true("explain says that it is passed: " + out, "passed" in out and "noEndpoints is Pass" in out)


# answerPing

def pinged(n=11, endpoints=("pod1", "r1"), **more):
    return balanced("web", n, list(endpoints), **more)


@case("addresses of Services that are alive answer ping", "BEY-4 PROTO-2", both_families)
def answers(b, family):
    b.once(pinged() + balanced("local", 12, ["r1"], etp="Local", itp="Local") + balanced("gone", 13, [])
           + balanced("ranged", 14, ["pod1"], ranges=["203.0.113.0/24", "2001:db8:113::/48"]),
           *settings("answerPing: true\n"))
    for source in ("client", "pod1", "pod2", "rpod", "host"):
        for target, want in (("svc11", "vip"), ("lb11", "vip"), ("ext11", "vip"), ("svc12", "vip"), ("lb12", "vip"),
                             ("lb14", "vip"), ("lb13", "world"), ("ext13", "world"), ("svc13", "refused")):
            if source == "host" and want == "refused":
                continue
            b.equal("%s pings %s" % (source, target), want, b.ping(source, target, family))
    for target in ("pod1", "r1", "node"):
        b.true("what is no VIP answers as ever", b.ping("client", target, family) == "vip")
    b.expect("client", "lb11:80", family, "tcp", reach("pod1", "r1"))


@case("explain tells what becomes of an echo request", "BEY-4 PROTO-2 VER-6", both_families)
def explained(b, family):
    words = ("icmp", "icmpv6") if family == 6 else ("icmp", "ICMP")
    objects = pinged() + balanced("gone", 13, [])
    for text, flags in (("answerPing: true\n", settings("answerPing: true\n")), ("", settings(""))):
        b.once(objects, *flags)
        for target, want in (("svc11", "answered" if text else "refused"), ("lb11", "answered" if text else "passed"),
                             ("ext11", "answered" if text else "passed"), ("svc13", "refused"), ("lb13", "passed"),
                             ("free1", "dropped"), ("node", "passed"), ("r1", "passed")):
            for word in words:
                status, out, err = b.program.run(*b.program.argv(flags)[1:], "explain", addr("client", family), word,
                                                 addr(target, family))
                b.equal("exit status of explain %s %s: %s" % (word, target, out + err), 0, status)
                verdict = re.search(r"^verdict +(\w+)", out, re.M)
                b.equal("explain %s %s%s" % (word, target, out), want, verdict and verdict.group(1))
                b.equal("the Service in %s" % out, want == "answered", "service   default/web:" in out)
            met = b.ping("client", target, family)
            b.true("%s: explain says %s, ping says %s" % (target, want, met),
                   met in {"answered": ("vip",), "refused": ("refused",), "dropped": ("silence",),
                           "passed": ("world", "vip")}[want])
    # the running one looks at the kernel
    b.start(objects, *settings("answerPing: true\n"))
    status, out, err = b.program.run("explain", addr("client", family), "icmp", addr("lb11", family))
    b.true("%d %s%s" % (status, out, err), status == 0 and "kernel    agrees: ping-ips" in out)
    status, out, err = b.program.run("explain", addr("client", family), "icmp", addr("lb13", family))
    b.true("%d %s%s" % (status, out, err), status == 0 and "kernel    agrees: ping-ips (nothing)" in out)
    for argv, message in ((("icmp", addr("lb11", family), "80"), "icmp has no ports: say SRC icmp DST"),
                          (("tcp", addr("lb11", family)), "which port? Say SRC tcp DST PORT")):
        status, out, err = b.program.run("explain", addr("client", family), *argv)
        b.true("%d %s%s" % (status, out, err), status == 2 and message in err)


def long_ping(b, source, target, family, size):
    """The sender and the length of the answer to an echo request of that size, or None."""
    ident = next(packet.IDENT)
    with netns.inside(b.world.name[topology.namespace_of(source)]):
        s = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_RAW,
                          socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6)
    with s:
        s.bind((addr(source, family), 0))
        body = struct.pack("!BBHHH", 8 if family == 4 else 128, 0, 0, ident, 1) + bytes(i & 255 for i in range(size))
        if family == 4:
            body = body[:2] + struct.pack("!H", packet.internet_sum(body)) + body[4:]
        s.sendto(body, (addr(target, family), 0))
        deadline = time.monotonic() + 1.5 * probe.SLOW
        while time.monotonic() < deadline:
            s.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                data, sender = s.recvfrom(65535)
            except TimeoutError:
                return None
            data = data[(data[0] & 15) * 4:] if family == 4 else data
            if data[0] in (0, 129) and struct.unpack_from("!H", data, 4)[0] == ident:
                b.true("the answer holds what was asked", data[8:] == body[8:])
                return sender[0], len(data) - 8
    return None


@case("echo requests in fragments are answered whole", "BEY-4", both_families)
def ping_fragments(b, family):
    b.once(pinged(), *settings("answerPing: true\n"))
    for source in ("client", "pod1", "rpod"):
        for target in ("svc11", "lb11", "ext11"):
            for size in (1400, 1473, 4000, 60000):
                b.equal("%s pings %s with %d bytes" % (source, target, size), (addr(target, family), size),
                        long_ping(b, source, target, family, size))


@case("datagrams in fragments are translated as ever", "BEY-4 PROTO-1", both_families)
def fragments(b, family):
    b.once(pinged(), *settings("answerPing: true\n"))
    for source, vip in (("client", "svc11:80"), ("client", "lb11:80"), ("pod2", "ext11:80"), ("node", "svc11:80")):
        c = b.connection(source, vip, family, "udp")
        c.sock.send(b"x" * 4000)
        b.equal("answer", " ".join(c.first.split()[:2]), " ".join(c.sock.recv(512).decode().split()[:2]))
        c.close()


class Pump:
    """A server that reads until the end and sends as much back."""

    def __init__(self, b, name, family, port):
        with netns.inside(b.world.name[topology.namespace_of(name)]):
            self.sock = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.sock.bind((addr(name, family), port))
        self.sock.listen(8)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                peer, _ = self.sock.accept()
            except OSError:
                return
            with peer, contextlib.suppress(OSError):
                peer.settimeout(4 * probe.SLOW)
                data = b""
                while more := peer.recv(65536):
                    data += more
                peer.sendall(data)

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.thread.join(5 * probe.SLOW)


# Only these two links are narrow, and the ends do not know: they learn it by errors that belong to the connection.
@case("path MTU of connections to a VIP that answers ping", "BEY-4 PROTO-3", both_families)
def path_mtu(b, family):
    for vips, ping_too in ((("svc41:80", "lb41:80", "ext41:80"), True), (("svc41:80", "lb41:80"), False)):
        b.once(balanced("big", 41, ["pod1:9000"]), *settings("answerPing: %s\n" % str(ping_too).lower()))
        for narrow in ("vethpod1", "toclient"):
            b.world.ip("node", "link set %s mtu 1300" % narrow)
            server = Pump(b, "pod1", family, 9000)
            try:
                for vip in vips:
                    target, _, port = vip.partition(":")
                    with netns.inside(b.world.name["client"]):
                        s = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6)
                    with s:
                        s.settimeout(5 * probe.SLOW)
                        s.connect((addr(target, family), int(port)))
                        got = 0
                        with contextlib.suppress(OSError):
                            s.sendall(b"x" * 200000)
                            s.shutdown(socket.SHUT_WR)
                            while more := s.recv(65536):
                                got += len(more)
                        b.equal("bytes that came back by %s, %s being narrow" % (vip, narrow), 200000, got)
            finally:
                server.close()
                b.world.ip("node", "link set %s mtu 1500" % narrow)
                for ns in ("client", "pod1"):
                    b.world.ip(ns, "route flush cache")


@case("an error about a datagram to a VIP that answers ping", "BEY-4 PROTO-3", both_families)
def mtu_of_datagrams(b, family):
    b.once(pinged(endpoints=["pod1"]), *settings("answerPing: true\n"))
    b.world.ip("node", "link set vethpod1 mtu 1300")
    try:
        for vip in ("svc11", "lb11"):
            with netns.inside(b.world.name["client"]):
                s = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
            with s:
                level, discover, mtu = (socket.IPPROTO_IP, 10, 14) if family == 4 else (socket.IPPROTO_IPV6, 23, 24)
                s.setsockopt(level, discover, 2)  # never in fragments
                s.settimeout(1.0)
                s.connect((addr(vip, family), 80))
                s.send(b"x" * 1400)
                try:
                    got = s.recv(512).decode()
                except OSError as e:
                    got = e.strerror
                b.equal("after the first datagram to " + vip, "Message too long", got)
                b.equal("path MTU", 1300, s.getsockopt(level, mtu))
    finally:
        b.world.ip("node", "link set vethpod1 mtu 1500")


@case("a pod whose interface on the node has no address", "BEY-4", both_families)
def no_address(b, family):
    b.once(pinged(), *settings("answerPing: true\n"))
    gateway = topology.POD_GATEWAY[family == 6]
    # the last address takes the routes along
    b.world.ip("node", "addr del %s/%d dev vethpod1" % (gateway, 32 if family == 4 else 128),
               "route replace %s dev vethpod1" % addr("pod1", family))
    try:
        b.world.ip("pod1", "neigh replace %s lladdr %s dev eth0" % (gateway, mac(b, "vethpod1")))
        b.equal("pod1 pings", "vip", b.ping("pod1", "svc11", family))
    finally:
        b.world.rebuild()


def mac(b, device):
    return b.in_node("ip", "-o", "link", "show", "dev", device).split("link/ether ")[1].split()[0]


@case("answerPing follows the file, and the last port that is alive", "BEY-4 CFG-3 RUN-2", both_families)
def ping_follows(b, family):
    flags = settings("")
    one = balanced("one", 11, ["pod1"])
    b.start(one, *flags)
    b.equal("off", "refused", b.ping("client", "svc11", family))
    for text, want in (("true", "vip"), ("false", "refused"), ("true", "vip")):
        with open(flags[-1], "w") as f:
            f.write("apiVersion: vipmap/v1alpha1\nkind: VipmapConfiguration\nanswerPing: %s\n" % text)
        b.program.process.send_signal(signal.SIGHUP)
        b.until("answerPing " + text, want, lambda: b.ping("client", "svc11", family))
        b.expect("client", "lb11:80", family, "tcp", reach("pod1"))
    two = both("two", 12, ["pod1"], ports=(81,), external=["ext11"])
    b.apply(one + two)
    b.equal("shared", "vip", b.ping("client", "ext11", family))
    b.apply(balanced("one", 11, []) + two)
    b.equal("shared, one is gone", "vip", b.ping("client", "ext11", family))
    b.equal("the other addresses of it", "refused", b.ping("client", "svc11", family))
    b.apply(balanced("one", 11, []) + both("two", 12, [], ports=(81,), external=["ext11"]))
    b.equal("both are gone", "world", b.ping("client", "ext11", family))
    b.stop()
    b.start(one, *flags)
    b.equal("after a restart", "vip", b.ping("client", "svc11", family))

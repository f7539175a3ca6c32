"""What goes beyond kube-proxy and is asked for in a VipmapConfiguration: Services without endpoints that pass, and what
they say about it themselves."""
import atexit
import os
import signal
import tempfile

from lib import packet, topology
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

IDENT = iter(range(9000, 60000))


def ping(b, source, target, family):
    """Who answers an echo request: "vip" if a reply came from the address itself and the node alone made it, "world"
    if it went on and was answered there, "refused" or "silence"."""
    w, ident = b.world.name, next(IDENT)
    ns = w[topology.namespace_of(source)]
    with packet.Sniffer(ns, w["world"]) as sniffer:
        packet.send_echo(ns, family, None if source == "host" else addr(source, family), addr(target, family), ident)

        def answer(where, p):
            if where != ns:
                return False
            return p.type in (0, 129) and p.ident == ident or p.inner is not None and p.inner.dst == addr(target, family)
        got = sniffer.collect(answer, 1.5)
        sniffer.collect(lambda *_: False, 0.1)  # what came at the same time elsewhere
    if not got:
        return "silence"
    if got[1].inner is not None:
        return "refused"
    left = any(where == w["world"] and p.type in (8, 128) and p.ident == ident for where, p in sniffer.seen)
    return "world" if left else "vip" if got[1].src == addr(target, family) else got[1].src


def pinged(n=11, **more):
    return balanced("web", n, ["pod1", "r1"], **more)


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
            b.equal("%s pings %s" % (source, target), want, ping(b, source, target, family))
    for target in ("pod1", "r1", "node"):
        b.true("what is no VIP answers as ever", ping(b, "client", target, family) == "vip")
    b.expect("client", "lb11:80", family, "tcp", reach("pod1", "r1"))


@case("a pod whose interface on the node has no address", "BEY-4", both_families)
def no_address(b, family):
    b.once(pinged(), *settings("answerPing: true\n"))
    gateway = topology.POD_GATEWAY[family == 6]
    # the last address takes the routes along
    b.world.ip("node", "addr del %s/%d dev vethpod1" % (gateway, 32 if family == 4 else 128),
               "route replace %s dev vethpod1" % addr("pod1", family))
    try:
        b.world.ip("pod1", "neigh replace %s lladdr %s dev eth0" % (gateway, mac(b, "vethpod1")))
        b.equal("pod1 pings", "vip", ping(b, "pod1", "svc11", family))
    finally:
        b.world.rebuild()


def mac(b, device):
    return b.in_node("ip", "-o", "link", "show", "dev", device).split("link/ether ")[1].split()[0]


@case("answerPing follows the file, and the last port that is alive", "BEY-4 CFG-3 RUN-2", both_families)
def ping_follows(b, family):
    flags = settings("")
    one = balanced("one", 11, ["pod1"])
    b.start(one, *flags)
    b.equal("off", "refused", ping(b, "client", "svc11", family))
    for text, want in (("true", "vip"), ("false", "refused"), ("true", "vip")):
        with open(flags[-1], "w") as f:
            f.write("apiVersion: vipmap/v1alpha1\nkind: VipmapConfiguration\nanswerPing: %s\n" % text)
        b.program.process.send_signal(signal.SIGHUP)
        b.until("answerPing " + text, want, lambda: ping(b, "client", "svc11", family))
        b.expect("client", "lb11:80", family, "tcp", reach("pod1"))
    two = both("two", 12, ["pod1"], ports=(81,), external=["ext11"])
    b.apply(one + two)
    b.equal("shared", "vip", ping(b, "client", "ext11", family))
    b.apply(balanced("one", 11, []) + two)
    b.equal("shared, one is gone", "vip", ping(b, "client", "ext11", family))
    b.equal("the other addresses of it", "refused", ping(b, "client", "svc11", family))
    b.apply(balanced("one", 11, []) + both("two", 12, [], ports=(81,), external=["ext11"]))
    b.equal("both are gone", "world", ping(b, "client", "ext11", family))
    b.stop()
    b.start(one, *flags)
    b.equal("after a restart", "vip", ping(b, "client", "svc11", family))

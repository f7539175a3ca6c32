"""What goes beyond kube-proxy and is asked for in a VipmapConfiguration: Services without endpoints that pass, and what
they say about it themselves."""
import atexit
import os
import signal
import tempfile

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

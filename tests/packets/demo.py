"""What scripts/demo shows: every kind of Service, real connections, and who answered them."""
import collections
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib import netns, probe, topology  # noqa: E402
from lib.case import DROPPED, REFUSED, SILENCE, UNTOUCHED, Bench, reach  # noqa: E402
from lib.program import VIPMAP  # noqa: E402
from lib.topology import addr, join  # noqa: E402

NODE = """\
apiVersion: v1
kind: Node
metadata: {name: node1}
spec: {podCIDRs: [10.180.0.0/24, "fd00:180::/64"]}
status:
  addresses:
  - {type: InternalIP, address: 192.168.1.1}
  - {type: InternalIP, address: "fd00:1::1"}
---
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [172.30.0.0/16, "fd00:30::/112"]}
"""

# Services that name their pods by a selector, as `kubectl apply` gets them; the pods follow below
SELECTED = """\
# An ordinary Service in both families
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: ClusterIP
  clusterIP: 172.30.0.11
  clusterIPs: [172.30.0.11, "fd00:30::11"]
  ipFamilies: [IPv4, IPv6]
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: dns, protocol: UDP, port: 53, targetPort: http}]
---
# A node port
apiVersion: v1
kind: Service
metadata: {name: shop}
spec:
  type: NodePort
  clusterIP: 172.30.0.12
  selector: {app: web}
  ports: [{port: 80, targetPort: http, nodePort: 30080}]
---
# A load balancer that lets only one network in
apiVersion: v1
kind: Service
metadata: {name: bank}
spec:
  type: LoadBalancer
  clusterIP: 172.30.0.13
  selector: {app: web}
  loadBalancerSourceRanges: [203.0.113.0/25]
  ports: [{port: 443, targetPort: 8080}]
status: {loadBalancer: {ingress: [{ip: 1.2.3.4}]}}
---
# externalTrafficPolicy Local: the client's address is kept, and only this node's pods answer from outside
apiVersion: v1
kind: Service
metadata: {name: blog}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  clusterIP: 172.30.0.14
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30081}]
status: {loadBalancer: {ingress: [{ip: 1.2.3.5}]}}
---
# An external IP
apiVersion: v1
kind: Service
metadata: {name: mail}
spec:
  clusterIP: 172.30.0.15
  externalIPs: [198.51.100.9]
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
# Session affinity: a client stays where it was
apiVersion: v1
kind: Service
metadata: {name: cart}
spec:
  clusterIP: 172.30.0.16
  sessionAffinity: ClientIP
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
# Nobody serves it
apiVersion: v1
kind: Service
metadata: {name: empty}
spec:
  clusterIP: 172.30.0.17
  selector: {app: nobody}
  ports: [{port: 80}]
---
# Nothing to do for a node proxy: headless, and a name elsewhere
apiVersion: v1
kind: Service
metadata: {name: headless}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {type: ExternalName, externalName: example.org}
"""

POD = """\
---
apiVersion: v1
kind: Pod
metadata: {name: %(name)s, labels: {app: web}}
spec: {nodeName: %(node)s, containers: [{name: web, ports: [{name: http, containerPort: 8080}, {name: http, containerPort: 8080, protocol: UDP}]}]}
status:
  podIP: %(v4)s
  podIPs: [{ip: %(v4)s}, {ip: "%(v6)s"}]
  conditions: [{type: Ready, status: "True"}]
"""

PODS = (("pod1", "node1"), ("pod2", "node1"), ("r1", "node2"))
ALL = ("pod1", "pod2", "r1")
HERE = ("pod1", "pod2")

# (what is shown, policy, source, family, protocol, destination, what must come of it)
ROWS = (
    ("web", "ClusterIP", "client", 4, "tcp", "172.30.0.11:80", reach(*ALL, src="node")),
    ("", "... from a pod", "pod3", 4, "tcp", "172.30.0.11:80", reach(*ALL, src="kept")),
    ("", "... from the node itself", "node", 4, "tcp", "172.30.0.11:80", reach(*ALL, src="node")),
    ("", "... UDP", "client", 4, "udp", "172.30.0.11:53", reach(*ALL, src="node")),
    ("", "... IPv6", "client", 6, "tcp", "fd00:30::11:80", reach(*ALL, src="node")),
    ("", "... a pod meets itself", "pod1", 4, "tcp", "172.30.0.11:80", reach(*ALL)),
    ("", "... a port it has not", "client", 4, "tcp", "172.30.0.11:81", REFUSED),
    ("shop", "NodePort", "client", 4, "tcp", "192.168.1.1:30080", reach(*ALL, src="node")),
    ("", "... at another address", "client", 4, "tcp", "192.168.1.5:30080", UNTOUCHED),
    ("", "... at 127.0.0.1", "loopback", 4, "tcp", "127.0.0.1:30080", UNTOUCHED),
    ("bank", "LoadBalancer, source ranges", "client2", 4, "tcp", "1.2.3.4:443", reach(*ALL, src="node")),
    ("", "... source out of range", "client", 4, "tcp", "1.2.3.4:443", DROPPED),
    ("", "... its ClusterIP", "client", 4, "tcp", "172.30.0.13:443", reach(*ALL, src="node")),
    ("blog", "LoadBalancer, policy Local", "client", 4, "tcp", "1.2.3.5:80", reach(*HERE, src="kept")),
    ("", "... from a pod", "pod3", 4, "tcp", "1.2.3.5:80", reach(*ALL, src="kept")),
    ("", "... its node port", "client", 4, "tcp", "192.168.1.1:30081", reach(*HERE, src="kept")),
    ("mail", "external IP", "client", 4, "tcp", "198.51.100.9:80", reach(*ALL, src="node")),
    ("", "... a port it has not", "client", 4, "tcp", "198.51.100.9:81", UNTOUCHED),
    ("cart", "session affinity", "client", 4, "tcp", "172.30.0.16:80", "sticky"),
    ("", "... another client", "many2", 4, "tcp", "172.30.0.16:80", "sticky"),
    ("empty", "no endpoints", "client", 4, "tcp", "172.30.0.17:80", REFUSED),
    ("", "... UDP", "client", 4, "udp", "172.30.0.17:80", REFUSED),
    ("-", "address nobody has", "client", 4, "tcp", "172.30.9.9:80", DROPPED),
    ("-", "a pod's own address", "client", 4, "tcp", "10.180.0.11:8080", UNTOUCHED),
)
COUNT = 60

TTY = sys.stdout.isatty()
BLOCK = "\u2587" if "utf" in (sys.stdout.encoding or "").lower() else "#"


def colour(code, text):
    return "\033[%sm%s\033[0m" % (code, text) if TTY else text


def manifests():
    pods = "".join(POD % {"name": name, "node": where, "v4": addr(name, 4), "v6": addr(name, 6)}
                   for name, where in PODS)
    return {"10-node.yaml": NODE, "20-services.yaml": SELECTED, "30-pods.yaml": pods.lstrip("-\n")}


def split(destination):
    address, _, port = destination.rpartition(":")
    return address, int(port)


def people(address):
    """A name for an address that a server saw or is."""
    for name, (_, v4, v6) in topology.HOSTS.items():
        if address in (v4, v6):
            return name
    return address


class Line:
    def __init__(self, bench, row):
        self.bench, self.row = bench, row
        _, _, source, family, proto, destination, self.want = row
        address, port = split(destination)
        quiet = self.want in (DROPPED, REFUSED, UNTOUCHED)
        self.probes = [probe.Probe(bench.world.name[topology.namespace_of(source)], proto, address, port,
                                   addr(source, family), timeout=SILENCE if self.want is DROPPED else 3)
                       for _ in range(6 if quiet else COUNT)]

    def hits(self):
        return collections.Counter(p.result.local for p in self.probes if p.result.kind == "reached")

    def source_seen(self):
        seen = set()
        family = self.row[3]
        for p in self.probes:
            if p.result.kind != "reached":
                continue
            address = p.result.peer.rpartition(":")[0].strip("[]")
            if address == addr(self.row[2], family):
                seen.add("client's" if self.row[2] != "node" else "own")
            elif address in self.bench.world.node_addresses[family]:
                seen.add("node's")
            else:
                seen.add(address)
        return "/".join(sorted(seen)) or "-"

    def verdict(self):
        """(words, whether they are the right ones)"""
        family, want = self.row[3], self.want
        kinds = {p.result.kind for p in self.probes}
        hits = set(self.hits())
        if kinds == {"silent"}:
            return "dropped", want is DROPPED
        if kinds == {"refused"}:
            slowest = max(p.result.took for p in self.probes)
            return ("refused at once" if slowest < 0.8 else "refused after %.1f s" % slowest,
                    want is REFUSED and slowest < 0.8)
        if kinds != {"reached"}:
            return ", ".join(sorted(str(p.result) for p in self.probes if p.result.kind != "reached")[:2]), False
        if hits == {join(*split(self.row[5]))}:
            return "left alone", want is UNTOUCHED
        if want == "sticky":
            return "always the same", len(hits) == 1
        if want in (DROPPED, REFUSED, UNTOUCHED):
            return "translated", False
        expected = {a for _, a in want.addresses(family)}
        seen = self.source_seen()
        right = want.src is None or seen == {"kept": "client's", "node": "node's"}[want.src]
        return "balanced over %d" % len(hits), hits == expected and right

    def show(self):
        service, policy, source, _, proto, destination, _ = self.row
        address, port = split(destination)
        bars, width = [], 0
        for name, n in sorted((people(k.rpartition(":")[0].strip("[]")), v) for k, v in self.hits().items()):
            if len(self.probes) == COUNT:
                bar = BLOCK * max(1, round(n / 10))
                bars.append("%s %s %d" % (name, colour("36", bar), n))
                width += len("%s %s %d  " % (name, bar, n))
        words, right = self.verdict()
        mark = colour("32", "ok") if right else colour("31;1", "WRONG")
        # padded by hand: colours have no width
        print("%-6s %-27s %-8s %-3s %-18s  %s %-8s  %s %s" % (
            service, policy, "client" if source.startswith("client") else source, proto, join(address, port),
            "  ".join(bars) + " " * (40 - width + (2 if bars else 0)), self.source_seen(), mark, words))
        return right


def vipmap(bench, *flags):
    return [VIPMAP, "--manifests", bench.program.manifests, "--hostname-override", "node1",
            "--cluster-cidr", topology.CLUSTER_CIDR] + list(flags)


def start(bench):
    out = open(os.path.join(bench.program.folder, "log"), "a")
    return subprocess.Popen(vipmap(bench), stderr=out, stdout=out, preexec_fn=bench.program.enter)


def wait_until_reached(bench, seconds=5):
    deadline = time.monotonic() + seconds
    left = ["172.30.0.11", "fd00:30::11"]
    while left and time.monotonic() < deadline:
        p = probe.Probe(bench.world.name["client"], "tcp", left[0], 80, timeout=0.3)
        probe.run([p])
        if p.result.kind == "reached" and p.result.namespace != "world":
            left.pop(0)
    if not left:
        return
    with open(os.path.join(bench.program.folder, "log")) as f:
        sys.exit("vipmap does not get going:\n" + f.read()[-2000:])


def table(bench):
    lines = [Line(bench, row) for row in ROWS]
    probe.run([p for line in lines for p in line.probes])
    title = "%-6s %-27s %-8s %-3s %-18s  %-40s %-8s  %s" % (
        "", "address", "from", "", "", "endpoints and their hits", "source", "verdict")
    print(colour("1", title))
    return sum(not line.show() for line in lines)


def change_under_traffic(bench):
    """Pods come and go while connections are made; nothing must fail."""
    path = os.path.join(bench.program.manifests, "30-pods.yaml")
    whole = manifests()["30-pods.yaml"]
    argv = [os.path.join(topology.TOOLS, "connect"), "-d", "3", "-r", "1500", "172.30.0.11", "80"]
    traffic = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True,
                               preexec_fn=lambda: netns.setns(bench.world.name["client"]))
    changes = 0
    while traffic.poll() is None:
        pods = whole.split("---\n")
        kept = pods[:1] + [p for i, p in enumerate(pods[1:]) if changes & (1 << i)]
        with open(path + ".new", "w") as f:
            f.write("---\n".join(kept))
        os.rename(path + ".new", path)
        changes += 1
        time.sleep(0.03)
    with open(path, "w") as f:
        f.write(whole)
    out = [line.split() for line in traffic.stdout.read().splitlines() if not line.startswith("slowest")]
    made = sum(int(w[0]) for w in out)
    bad = sum(int(w[0]) for w in out if w[1] != "reached")
    print("%d connections while pods came and went %d times: %d failed" % (made, changes, bad))
    return bad


def restart(bench, process):
    """An established connection outlives SIGKILL and a new start."""
    bench_connection = probe.Connection(bench.world.name["client"], "tcp", "172.30.0.11", 80)
    before = bench_connection.ask()
    process.kill()
    process.wait()
    dead = bench_connection.ask()
    p = probe.Probe(bench.world.name["client"], "tcp", "172.30.0.11", 80)
    probe.run([p])
    again = start(bench)
    time.sleep(0.3)
    after = bench_connection.ask()
    right = before == dead == after and p.result.kind == "reached"
    print("vipmap killed and started again: an established connection %s, new ones %s meanwhile" % (
        "went on" if before == dead == after else "BROKE", p.result.kind))
    return again, not right


def ask(bench):
    """What an operator would ask the one that runs; returns how many of the commands failed."""
    failed = 0
    for argv in (["status", "--wait", "10s"], ["status"], ["get", "services"], ["explain", "default/web:http"], ["flows", "web", "--limit", "8"],
                 ["top", "-1"]):
        print("\n$ vipmap " + " ".join(argv), flush=True)
        failed += subprocess.run([VIPMAP] + argv, preexec_fn=bench.program.enter).returncode != 0
    print()
    return failed


def show(bench):
    for name, text in manifests().items():
        with open(os.path.join(bench.program.manifests, name), "w") as f:
            f.write(text)
    print("\nA node with pod1, pod2 and pod3; r1 is a pod of another node; clients outside. vipmap runs in the node's")
    print("namespace on %d manifest files; %d connections to each address (6 where none is expected).\n" %
          (len(manifests()), COUNT))
    process = start(bench)
    try:
        wait_until_reached(bench)
        wrong = table(bench)
        print()
        wrong += change_under_traffic(bench)
        process, broken = restart(bench, process)
        wrong += broken
        wrong += ask(bench)
    finally:
        process.terminate()
        process.wait()
    status = subprocess.run(vipmap(bench, "--cleanup"), stderr=subprocess.DEVNULL,
                            preexec_fn=bench.program.enter).returncode
    print("vipmap --cleanup: %s" % ("nothing is left of it" if status == 0 else "FAILED"))
    print("\n" + (colour("32", "All as it should be.") if not wrong and not status else
                  colour("31;1", "%d lines are WRONG." % (wrong + bool(status)))))
    return 1 if wrong or status else 0


def main():
    if "--manifests" in sys.argv:
        print("---\n".join(manifests().values()))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    netns.remove_stale()
    try:
        with topology.World() as world:
            bench = Bench(world, None)
            try:
                return show(bench)
            finally:
                bench.close()
    except KeyboardInterrupt:
        print("\ninterrupted, cleaned up")
        return 130


if __name__ == "__main__":
    sys.exit(main())

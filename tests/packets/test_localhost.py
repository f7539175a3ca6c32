"""Node ports on loopback: the started program listens there and passes bytes on."""
import signal
import socket
import time
import urllib.request

from lib import netns
from lib.case import *

LOCALHOST = DETECT + ("--nodeport-addresses", "primary,localhost")
PORT = "loopback:30500"  # the world's own servers hold 30080 to 30099
CONFIG = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: 10.180.0.0/16,fd00:180::/48
conntrack: {maxPerCore: 0}
nodePortAddresses: %s
"""


def web(endpoints, **more):
    return both("web", 11, endpoints, kind="NodePort", nodeport=30500, **more)


@case("a host process reaches every endpoint through loopback, in both families", "NP-3 NP-9 SEL-8", both_families)
def reaches(b, family):
    b.start(web(["pod1", "r1", "r2"]), *LOCALHOST)
    b.expect("host", PORT, family, "tcp", reach("pod1", "r1", "r2"))
    # UDP is not served, and other ports are as they were
    b.expect("host", PORT, family, "udp", REFUSED)
    b.expect("host", "loopback:30501", family, "tcp", REFUSED)
    # what is not loopback goes through the kernel
    b.expect("host", "node:30500", family, "tcp", reach("pod1", "r1", "r2"))


@case("only the family whose loopback is named", "NP-3 NP-9")
def one_family(b):
    b.start(web(["pod1"]), *DETECT, "--nodeport-addresses", "primary,127.0.0.1/32")
    b.expect("host", PORT, 4, "tcp", reach("pod1"))
    b.expect("host", PORT, 6, "tcp", REFUSED)


@case("loopback that is not named is left alone", "NP-3", both_families)
def not_named(b, family):
    b.start(web(["pod1"]), *DETECT)
    b.expect("host", PORT, family, "tcp", REFUSED)
    b.apply(web(["pod1", "r1"]))
    b.expect("host", PORT, family, "tcp", REFUSED)


@case("the list of the policy, without the short-circuit", "NP-9 POL-5", both_families)
def policy(b, family):
    b.start(web(["pod1", "r1"], etp="Local"), *LOCALHOST)
    b.expect("host", PORT, family, "tcp", reach("pod1"))
    b.apply(web(["r1"], etp="Local"))
    b.expect("host", PORT, family, "tcp", REFUSED)
    b.apply(web(["r1"]))
    b.expect("host", PORT, family, "tcp", reach("r1"))


@case("source ranges and the internal policy do not apply", "NP-9 NP-5", both_families)
def others(b, family):
    b.start(web(["r1"], itp="Local", ranges=["198.51.100.0/24", "2001:db8:51::/48"], lb=["lb11"]), *LOCALHOST)
    b.expect("host", PORT, family, "tcp", reach("r1"))


@case("listeners follow endpoints and Services, connections outlive them", "NP-9 SVC-12", both_families)
def follows(b, family):
    b.start(web(["pod1"]), *LOCALHOST)
    stays = b.connection("host", PORT, family)
    b.equal("who answers", "pod1", stays.first.split()[0])
    b.apply(web(["r1"]))
    b.expect("host", PORT, family, "tcp", reach("r1"))
    b.equal("an endpoint that left the list keeps its connection", "pod1", stays.ask().split()[0])
    b.apply(web([]))
    b.expect("host", PORT, family, "tcp", REFUSED)
    b.apply(both("web", 11, ["r1"], kind="NodePort", nodeport=30600))
    b.expect("host", PORT, family, "tcp", REFUSED)
    b.expect("host", "loopback:30600", family, "tcp", reach("r1"))
    b.apply([])
    b.expect("host", "loopback:30600", family, "tcp", REFUSED)
    b.equal("after the Service is gone, too", "pod1", stays.ask().split()[0])
    stays.close()


@case("affinity binds all local clients to one endpoint", "NP-9 AFF-4", both_families)
def sticky(b, family):
    b.start(web(["pod1", "r1", "r2"], affinity=60), *LOCALHOST)
    first = b.connection("host", PORT, family)
    chosen = first.first.split()
    first.close()
    for _ in range(12):
        again = b.connection("host", PORT, family)
        b.equal("the endpoint", chosen[:2], again.first.split()[:2])
        again.close()


@case("another configuration opens and closes them", "NP-9 CFG-3", both_families)
def reconfigured(b, family):
    path = b.program.file("config.yaml", CONFIG % "[primary]")
    b.start(web(["pod1"]), "--config", path)
    b.expect("host", PORT, family, "tcp", REFUSED)
    b.program.file("config.yaml", CONFIG % "[primary, localhost]")
    b.program.process.send_signal(signal.SIGHUP)
    b.eventually("host", PORT, family, "tcp", reach("pod1"))
    stays = b.connection("host", PORT, family)
    b.program.file("config.yaml", CONFIG % "[primary]")
    b.program.process.send_signal(signal.SIGHUP)
    b.eventually("host", PORT, family, "tcp", REFUSED)
    b.equal("what stands goes on", "pod1", stays.ask().split()[0])
    stays.close()


def metric(b, name):
    with netns.inside(b.world.name["node"]):
        with urllib.request.urlopen("http://127.0.0.1:10249/metrics", timeout=30) as answer:
            text = answer.read().decode()
    return [float(line.split()[1]) for line in text.splitlines() if line.startswith(name)]


@case("a port that somebody else holds is told, counted and served later", "NP-9 MET-5")
def taken(b):
    with netns.inside(b.world.name["node"]):
        holder = socket.create_server(("127.0.0.1", 30500))
    b.start(web(["pod1"]) + both("more", 12, ["r1"], kind="NodePort", nodeport=30600), *LOCALHOST)
    prefix = "kubeproxy_nftables_localhost_nodeport_"
    b.expect("host", "loopback:30600", 4, "tcp", reach("r1"))
    b.expect("host", PORT, 6, "tcp", reach("pod1"))
    b.equal("listeners", [1.0, 2.0], metric(b, prefix + "listeners{"))
    b.equal("failures", [1.0, 0.0], metric(b, prefix + "listener_creation_failures_total{"))
    b.equal("rejected", [0.0] * 6, metric(b, prefix + "rejected_packets_total{"))
    b.equal("lines in the log", 1, b.program.log.count("default/web:t80: localhost node port 30500 (IPv4) is not served"))
    holder.close()
    b.eventually("host", PORT, 4, "tcp", reach("pod1"), 8)
    b.equal("listeners", [2.0, 2.0], metric(b, prefix + "listeners{"))


@case("ports that Services exchange are served at once, and nobody is told of a failure", "NP-9 MET-5")
def exchanged(b):
    def objects(web, more):
        return (both("web", 11, ["pod1"], kind="NodePort", nodeport=web)
                + both("more", 12, ["r1"], kind="NodePort", nodeport=more))
    b.start(objects(30500, 30600), *LOCALHOST)
    for web, more in ((30600, 30500), (30700, 30600), (30600, 30700), (30500, 30600)):
        b.apply(objects(web, more))
        for family in both_families:
            b.expect("host", "loopback:%d" % web, family, "tcp", reach("pod1"))
            b.expect("host", "loopback:%d" % more, family, "tcp", reach("r1"))
    b.equal("failures", [0.0, 0.0],
            metric(b, "kubeproxy_nftables_localhost_nodeport_listener_creation_failures_total{"))
    b.true("the log", "is not served" not in b.program.log, "no such error: " + b.program.log[-500:])


@case("ten thousand short connections leave nothing behind", "NP-9")
def no_leak(b):
    b.start(web(["pod1", "r1"]), *LOCALHOST)
    b.connect_tool("host", PORT, 4, "-n", 200, "-w", 32, "-t", 5000)
    time.sleep(0.5)
    count = b.in_node("sh", "-c", "ls /proc/%d/fd | wc -l" % b.program.process.pid)
    tally, _ = b.connect_tool("host", PORT, 4, "-n", 10000, "-w", 64, "-t", 5000)
    b.equal("connections", 10000, sum(tally.values()))
    b.equal("answers that should not be", [], [k for k in tally if not k.startswith(("pod1 ", "remote "))])
    b.until("descriptors", count, lambda: b.in_node("sh", "-c", "ls /proc/%d/fd | wc -l" % b.program.process.pid), 5)

"""What happens where something runs out, is odd, or is not to be had: a full affinity map, packets that conntrack calls
invalid, a family that cannot be programmed, a machine without the usual tools."""
import os
import signal
import socket
import struct
import subprocess

from lib import netns, packet, probe
from lib.case import *
from lib.program import VIPMAP

CLIENTS = ["many%d" % i for i in range(1, 13)]
FOUR = ["pod1", "pod2", "r1", "r2"]


# IPv6 not: nft 1.0.6 cannot load an affinity map of it
@case("a full affinity map: nobody is refused, those who fit in are remembered", "AFF-9", protos=("tcp", "udp"))
def full_map(b, proto):
    b.program.cleanup()
    b.program.write(base() + both("web", 11, FOUR, affinity=600))
    status, text, err = b.program.run("--manifests", b.program.manifests, "--hostname-override", "node1", "--dry-run",
                                      *DETECT)
    b.equal("status of the dry run: " + err[-300:], 0, status)
    ipv4 = text[:text.index("table ip6 ")]
    b.true("a size to be made small", "size 1048576" in ipv4)
    b.nft(ipv4.replace("size 1048576", "size 2"))
    endpoints = {join(addr(e, 4), 8080) for e in FOUR}
    seen = {c: [] for c in CLIENTS}
    for _ in range(8):
        made = [(c, b.make(c, "svc11:80", 4, proto)) for c in CLIENTS]
        probe.run([p for _, p in made])
        for c, p in made:
            b.equal("%s is served" % c, "reached", p.result.kind)
            seen[c].append(p.result.local)
    b.true("only endpoints of the Service", set().union(*map(set, seen.values())) <= endpoints)
    listing = b.in_node("nft", "list", "map", "ip", "vipmap", "affinity/default/web/%s/%s80" % (proto, proto[0]))
    b.equal("clients remembered", 2, listing.count("expires"))
    b.true("those two stay at one endpoint, most others do not",
           2 <= sum(len(set(s)) == 1 for s in seen.values()) <= 4)
    b.nft("delete table ip vipmap")


def invalid_segment(sport, dport, source, destination):
    """SYN and FIN at once: no connection begins like this, and conntrack calls it invalid."""
    tcp = struct.pack("!HHIIBBHHH", sport, dport, 1, 0, 5 << 4, 0x03, 1024, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(destination) + struct.pack("!BBH", 0, 6, len(tcp))
    return tcp[:16] + struct.pack("!H", packet.internet_sum(pseudo + tcp)) + tcp[18:]


@case("packets that conntrack calls invalid are not dropped", "PROTO-4")
def invalid(b):
    b.once(both("web", 11, ["pod1"]))
    source, destination = addr("client", 4), addr("pod1", 4)
    with packet.Sniffer(b.world.name["pod1"]) as sniffer:
        with netns.inside(b.world.name["client"]):
            s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        with s:
            s.sendto(invalid_segment(4242, 8080, source, destination), (destination, 0))
        arrived = sniffer.collect(lambda ns, p: p.src == source and p.proto == 6 and p.sport == 4242, 2.0)
    b.true("the packet arrives at the pod", arrived)


@case("a family that cannot be programmed does not stop the other", "DS-6 RUN-4")
def one_family(b):
    b.program.cleanup()
    # somebody's own table of our name: until that process ends, nobody else may change it
    holder = subprocess.Popen(["nft", "-i"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                              preexec_fn=b.program.enter)
    try:
        holder.stdin.write("add table ip6 vipmap { flags owner; }\n")
        holder.stdin.flush()
        b.until("the foreign table is there", True,
                lambda: "ip6 vipmap" in b.in_node("nft", "list", "tables"))
        b.program.write(base() + both("web", 11, ["pod1"]))
        process = subprocess.Popen(b.program.argv(DETECT), stderr=subprocess.PIPE, preexec_fn=b.program.enter,
                                   text=True)
        try:
            b.eventually("client", "svc11:80", 4, "tcp", reach("pod1"))
            b.true("IPv6 is not programmed", "service-ips" not in b.in_node("nft", "list", "tables", "ip6") and
                   "service-ips" not in b.in_node("nft", "list", "maps", "ip6"))
            holder.stdin.close()
            holder.wait(5)
            b.eventually("client", "svc11:80", 6, "tcp", reach("pod1"), seconds=15)
        finally:
            process.send_signal(signal.SIGTERM)
            log = process.communicate(timeout=30)[1]
        b.true("the failure was reported: " + log[-500:], "sync of IPv6 failed" in log)
    finally:
        holder.kill()
        holder.wait()


@case("no other program is needed", "RUN-11")
def alone(b):
    b.program.write(base() + both("web", 11, ["pod1"]))
    b.in_node("/usr/bin/env", "-i", "PATH=/nonexistent", os.path.abspath(VIPMAP), "--manifests", b.program.manifests,
              "--hostname-override", "node1", "--once", *DETECT)
    for family in (4, 6):
        b.expect("client", "svc11:80", family, "tcp", reach("pod1"))


@case("mode NodeCIDR with a Node that has no ranges is an error", "NODE-3")
def no_ranges(b):
    b.program.cleanup()
    b.program.write(base(pod_cidrs=[]) + both("web", 11, ["pod1"]))
    for more in (["--once"], []):
        status, _, err = b.program.run(*b.program.argv(("--detect-local-mode", "NodeCIDR"))[1:], *more)
        b.equal("exit status with %s" % (more or "the daemon"), 1, status)
        b.true("the field is named: " + err[-300:], "spec.podCIDRs" in err)
    b.true("nothing is programmed", "vipmap" not in b.in_node("nft", "list", "tables"))


# flags, the Node, exit status of --once, what is said
FAMILIES = [
    ("NodeCIDR, ranges of the other family", ["--detect-local-mode", "NodeCIDR"], dict(pod_cidrs=["fd00:180::/64"]), 1,
     "error: --detect-local-mode: NodeCIDR, and the node is IPv4-primary, but its spec.podCIDRs have no IPv4 range"),
    ("NodeCIDR, ranges of both", ["--detect-local-mode", "NodeCIDR"], {}, 0, None),
    ("ClusterCIDR, a range of the other family", ["--cluster-cidr", "fd00:180::/48"], {}, 0,
     "warning: --cluster-cidr: the node is IPv4-primary, but there is no IPv4 range"),
    ("ClusterCIDR, a Node of that family", ["--cluster-cidr", "fd00:180::/48"], dict(families=(6,)), 0, None),
    ("nodePortAddresses of the other family", [*DETECT, "--nodeport-addresses", "fd00::/16"], {}, 0,
     "warning: --nodeport-addresses: the node is IPv4-primary, but there is no IPv4 range"),
    ("bindAddress decides", [*DETECT, "--nodeport-addresses", "192.168.1.0/24", "--bind-address", "fd00:1::1"], {}, 0,
     "warning: --nodeport-addresses: the node is IPv6-primary, but there is no IPv6 range"),
]


@case("ranges of the family that the node has not, or not first", "CFG-5")
def families(b):
    for name, flags, of_node, want, says in FAMILIES:
        b.program.write(base(**of_node) + both("web", 11, ["pod1"]))
        status, _, err = b.program.run(*b.program.argv(flags)[1:], "--once")
        b.equal("exit status, %s: %s" % (name, err[-300:]), want, status)
        b.true("%s: %s" % (name, err[-300:]), says in err if says else "but there is no" not in err, says or "no word")


@case("a changed file that does not fit the Node", "CFG-5 CFG-3")
def changed_file(b):
    def config(more):
        return b.program.file("config.yaml", "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n"
                              "kind: KubeProxyConfiguration\nconntrack: {maxPerCore: 0}\noomScoreAdj: 0\n" + more)

    objects = [node(pod_cidrs=["fd00:180::/64"]), service_cidr()] + both("web", 11, ["pod1"])
    b.program.start(objects, "--config", config("clusterCIDR: %s\n" % CLUSTER_CIDR))
    config("detectLocalMode: NodeCIDR\n")
    b.hears("error: configuration stays as it was: detectLocalMode: NodeCIDR, and the node is IPv4-primary", 6)
    b.equal("still running", None, b.program.process.poll())
    b.expect_both("svc11:80", "pod1")

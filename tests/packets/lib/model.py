"""Sections 3 to 9 of the semantics once more, as plainly as possible and without a thought for speed: given
objects and one packet, what must become of it. The random test holds the program against this."""
import ipaddress

from .manifests import THIS_NODE


def family_of(text):
    try:
        return ipaddress.ip_address(text).version
    except ValueError:
        return None


class Endpoint:
    def __init__(self, address, port, item):
        conditions = item.get("conditions") or {}
        self.key = (address, port)
        self.ready = conditions.get("ready") is not False
        self.serving = conditions.get("serving") is not False
        self.terminating = bool(conditions.get("terminating"))
        self.local = item.get("nodeName") == THIS_NODE
        hints = item.get("hints") or {}
        self.zones = {h["name"] for h in hints.get("forZones", ())}
        self.nodes = {h["name"] for h in hints.get("forNodes", ())}


class Port:
    """One service port in one family."""

    def __init__(self, service, family, entry, endpoints, zone):
        spec = service["spec"]
        self.service, self.proto, self.port = service, entry["protocol"].lower(), entry["port"]
        self.node_port = entry.get("nodePort", 0)
        self.internal_local = spec.get("internalTrafficPolicy") == "Local"
        self.external_local = spec.get("externalTrafficPolicy") == "Local" and (
            spec["type"] != "ClusterIP" or bool(spec.get("externalIPs")))
        self.alive = any(e.ready or (e.serving and e.terminating) for e in endpoints)
        self.cluster = self.cluster_list(endpoints, zone)
        here = [e for e in endpoints if e.local]
        self.local = [e for e in here if e.ready] or [e for e in here if e.serving and e.terminating]
        self.local_keys = {e.key for e in here}
        ranges = []
        for text in spec.get("loadBalancerSourceRanges", ()):
            try:
                net = ipaddress.ip_network(text.strip(), strict=False)
            except ValueError:
                continue
            if net.version == family:
                ranges.append(net)
        self.ranges = None if not ranges or any(n.prefixlen == 0 for n in ranges) else ranges

    @staticmethod
    def cluster_list(endpoints, zone):
        ready = [e for e in endpoints if e.ready]
        if not ready:
            return [e for e in endpoints if e.serving and e.terminating]
        if all(e.nodes for e in ready) and any(THIS_NODE in e.nodes for e in ready):
            return [e for e in ready if THIS_NODE in e.nodes]
        if zone and all(e.zones for e in ready) and any(zone in e.zones for e in ready):
            return [e for e in ready if zone in e.zones]
        return ready


class Model:
    """One family of one set of objects. @pods are ranges of pod sources (ClusterCIDR mode), None without detection."""

    def __init__(self, objects, family, pods=None, masquerade_all=False, nodeport_addresses=(), node_addresses=(),
                 kept=()):
        self.family, self.pods, self.masquerade_all = family, pods, masquerade_all
        self.kept = [n for n in kept if n.version == family]  # noMasqueradeCIDRs
        self.nodeport_addresses, self.node_addresses = set(nodeport_addresses), set(node_addresses)
        self.vips, self.node_ports, self.cluster_ips, self.cidrs = {}, {}, set(), []
        zone, slices, services = "", {}, []
        for o in objects:
            if o["kind"] == "Node":
                zone = o["metadata"].get("labels", {}).get("topology.kubernetes.io/zone", "")
            elif o["kind"] == "ServiceCIDR":
                nets = [ipaddress.ip_network(c, strict=False) for c in o["spec"]["cidrs"]]
                self.cidrs += [n for n in nets if n.version == family]
            elif o["kind"] == "EndpointSlice" and o["addressType"] == "IPv%d" % family and \
                    "service.kubernetes.io/headless" not in o["metadata"]["labels"]:
                name = o["metadata"]["labels"].get("kubernetes.io/service-name")
                slices.setdefault((o["metadata"]["namespace"], name), []).append(o)
            elif o["kind"] == "Service":
                services.append(o)
        services.sort(key=lambda s: (s["metadata"].get("creationTimestamp", "9"), s["metadata"]["namespace"],
                                     s["metadata"]["name"]))
        for s in services:
            self.add(s, slices.get((s["metadata"]["namespace"], s["metadata"]["name"]), []), zone)

    def add(self, service, slices, zone):
        spec, meta = service["spec"], service["metadata"]
        if "service.kubernetes.io/service-proxy-name" in meta.get("labels", {}) or spec["type"] == "ExternalName" or \
                spec.get("clusterIP") in (None, "", "None"):
            return
        mine = [a for a in spec.get("clusterIPs") or [spec["clusterIP"]] if family_of(a) == self.family]
        if not mine:
            return
        external = [a for a in spec.get("externalIPs", ()) if family_of(a) == self.family]
        ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress", ())
        balancer = [i["ip"] for i in ingress if family_of(i.get("ip", "")) == self.family
                    and i.get("ipMode", "VIP") == "VIP"]
        self.cluster_ips.add(mine[0])
        for entry in spec["ports"]:
            port = Port(service, self.family, entry, self.endpoints(slices, entry), zone)
            key = (port.proto, port.port)
            self.vips.setdefault((mine[0],) + key, ("cluster", port))
            for a in balancer:
                self.vips.setdefault((a,) + key, ("lb", port))
            for a in external:
                self.vips.setdefault((a,) + key, ("external", port))
            if port.node_port:
                self.node_ports.setdefault((port.proto, port.node_port), ("nodeport", port))

    @staticmethod
    def endpoints(slices, entry):
        found = {}
        for s in slices:
            for p in s["ports"]:
                if p["name"] != entry.get("name", "") or p["protocol"] != entry["protocol"]:
                    continue
                for item in s["endpoints"]:
                    e = Endpoint(item["addresses"][0], p["port"], item)
                    if e.key not in found or found[e.key].terminating:
                        found[e.key] = e
        return list(found.values())

    def expect(self, source, destination, proto, port):
        """("reach", keys, masqueraded) or ("refuse",), ("drop",), ("pass",). @source is an address."""
        kind, p = self.vips.get((destination, proto, port), (None, None))
        if not p and destination in self.nodeport_addresses:
            kind, p = self.node_ports.get((proto, port), (None, None))
        if not p:
            if destination in self.cluster_ips:
                return ("refuse",)
            if any(ipaddress.ip_address(destination) in c for c in self.cidrs):
                return ("drop",)
            return ("pass",)
        if kind == "lb" and p.ranges is not None and not any(ipaddress.ip_address(source) in r for r in p.ranges):
            return ("drop",)
        if not p.alive:
            return ("refuse",)
        pod = self.pods is not None and any(ipaddress.ip_address(source) in n for n in self.pods)
        host = source in self.node_addresses
        if kind == "cluster":
            chosen = p.local if p.internal_local else p.cluster
            masquerade = self.masquerade_all or (self.pods is not None and not pod)
        elif not p.external_local:
            chosen, masquerade = p.cluster, True
        elif pod:
            chosen, masquerade = p.cluster, False
        elif host:
            chosen, masquerade = p.cluster, True
        else:
            chosen, masquerade = p.local, False
        if not chosen:
            return ("drop",)
        # MASQ-5 and BEY-3 are decided per endpoint, so they are told per endpoint
        may_keep = self.is_kept(source) and not (kind == "cluster" and self.masquerade_all)
        return ("reach", {e.key: (masquerade and not (may_keep and self.is_kept(e.key[0])))
                          or (e.key[0] == source and e.key in p.local_keys) for e in chosen})

    def is_kept(self, address):
        return any(ipaddress.ip_address(address) in n for n in self.kept)

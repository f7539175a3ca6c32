"""A fast path that the kernel cannot do. With a kernel that can, see fastpath.py, which scripts/vm-test runs."""
from lib.case import *
from lib import netns

FLOWTABLE = "add table inet probe; add flowtable inet probe f { hook ingress priority filter; };" \
            "add chain inet probe c { type filter hook forward priority 0; }; add rule inet probe c flow add @f"
SETTINGS = 'apiVersion: vipmap/v1alpha1\nkind: VipmapConfiguration\nfastPath: {interfaces: ["*"]}\n'


@case("a kernel without flowtables: one warning, and all else works", "BEY-6", both_families)
def lacking(b, family):
    try:
        b.in_node("nft", "-c", "-f", "-", stdin=FLOWTABLE)
    except netns.CommandFailed:
        pass
    else:
        raise Skip("this kernel has flowtables")
    b.start(both("web", 11, ["pod1"]), *DETECT, "--vipmap-config", b.program.file("vipmap.yaml", SETTINGS))
    for proto in ("tcp", "udp"):
        b.expect("client", "svc11:80", family, proto, reach("pod1", src="node"))
    b.apply(both("web", 11, ["r1"]))
    for proto in ("tcp", "udp"):
        b.expect("client", "svc11:80", family, proto, reach("r1", src="node"))
    warnings = [line for line in b.program.log.splitlines() if "fastPath" in line]
    b.equal("warnings: %s" % warnings, 1, len(warnings))
    b.true(warnings[0], "the kernel has no flowtables for IPv4: " in warnings[0] and "ordinary way" in warnings[0])
    b.equal("repairs", False, "changed by somebody else" in b.program.log)
    text = b.in_node("nft", "list", "ruleset")
    b.true("table", "service-ips" in text and "fast-path" not in text and "flowtable" not in text)
    status, out, err = b.program.run("diff")
    b.equal("diff: %s" % err, (0, ""), (status, out))

"""Metrics of a running program, and what scripts/deploy/monitoring makes of them."""
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

from lib.apiserver import TOP, api
from lib.case import *

MONITORING = os.path.join(TOP, "scripts/deploy/monitoring")
# words of PromQL that stand where a metric's name could
WORDS = set("and or unless by on without ignoring group_left group_right bool offset inf nan".split())


def page(b, seconds=3):
    """A changed configuration may close the server for a moment."""
    patience = probe.Patience(seconds)
    while True:
        try:
            with netns.inside(b.world.name["node"]):
                c = http.client.HTTPConnection("127.0.0.1", 10249, timeout=30)
                c.connect()
            with contextlib.closing(c):
                c.request("GET", "/metrics")
                return c.getresponse().read().decode()
        except ConnectionError:
            if patience.over():
                raise
            time.sleep(0.01)


def series(b):
    """{'name{labels}': number}"""
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in page(b).splitlines() if line and line[0] != "#"}


def names(found):
    return {s.partition("{")[0] for s in found}


def metrics_in(expression):
    """The names of metrics in PromQL: what is left without strings, labels, ranges, functions and words."""
    text = re.sub(r'"[^"]*"', "", expression)
    text = re.sub(r"\{[^}]*\}", "", text)
    text = re.sub(r"\[[^\]]*\]", "", text)
    text = re.sub(r"\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", "", text)
    return {m.group(1) for m in re.finditer(r"(?<![\w.])([A-Za-z_:][\w:]*)(?!\w)(?!\s*\()", text)} - WORDS


def rules():
    """The alerts' rules as promtool reads them: the PrometheusRule's spec."""
    with open(os.path.join(MONITORING, "alerts.yaml")) as f:
        text = f.read()
    return "".join(line[2:] if line.startswith("  ") else line for line in text[text.index("\nspec:\n") + 7:].splitlines(True))


def expressions_of_alerts():
    """[(alert, expression)]"""
    return [(alert, re.sub(r"^>-\n", "", expression)) for alert, expression in
            re.findall(r"- alert: (\w+)\n +expr: (.*?)\n +for:", rules(), re.S)]


def expressions_of_dashboard():
    with open(os.path.join(MONITORING, "dashboard.json")) as f:
        dashboard = json.load(f)
    found = [(p["title"], t["expr"]) for p in dashboard["panels"] for t in p["targets"]]
    for variable in dashboard["templating"]["list"]:
        match = re.fullmatch(r"label_values\((\w+), \w+\)", variable["query"])
        if match:
            found.append((variable["name"], match.group(1)))
    return found


# Services of every kind, and one whose address is taken
def objects():
    thief = both("thief", 11, ["r1"])
    return both("web", 11, ["pod1", "r1"], kind="LoadBalancer", lb=["lb11"], nodeport=30080) + thief


@case("every metric of the alerts and of the dashboard exists", "MET-6")
def exist(b):
    with api(b) as server:
        b.start(objects(), *DETECT, "--vipmap-config", b.program.file("vipmap.yaml", "apiVersion: vipmap/v1alpha1\n"
                "kind: VipmapConfiguration\nserviceCounters: true\n"))
        b.expect("client", "lb11:80", 4, "tcp", reach("pod1", "r1"))
        time.sleep(0.2)
        there = names(series(b)) | {"up"}  # Prometheus' own
        alerts, panels = expressions_of_alerts(), expressions_of_dashboard()
        b.true("%d alerts, %d expressions of panels" % (len(alerts), len(panels)), len(alerts) >= 9 and len(panels) >= 15)
        for where, expression in alerts + panels:
            used = metrics_in(expression)
            b.true("%s: a metric in %s" % (where, expression), bool(used))
            b.equal("%s: metrics that do not exist" % where, set(), used - there)
        server.tell("state")


@case("promtool accepts the alerts, and each fires when it should and not before", "MET-6")
def alerts(b):
    folder = tempfile.mkdtemp(prefix="vpkt-alerts-")
    try:
        with open(os.path.join(folder, "rules.yaml"), "w") as f:
            f.write(rules())
        shutil.copy(os.path.join(TOP, "tests/data/monitoring/alerts-test.yaml"), folder)
        for argv in (["check", "rules", "rules.yaml"], ["test", "rules", "alerts-test.yaml"]):
            done = subprocess.run(["promtool"] + argv, cwd=folder, capture_output=True, text=True)
            b.equal("promtool " + " ".join(argv), (0, ""), (done.returncode, "" if done.returncode == 0 else done.stdout[-2000:] +
                                                            done.stderr[-2000:]))
        with open(os.path.join(folder, "alerts-test.yaml")) as f:
            text = f.read()
        tried = set(re.findall(r"alertname: (\w+)\n    exp_alerts:\n    - ", text))
        quiet = set(re.findall(r"alertname: (\w+), exp_alerts: \[\]", text))
        every = {name for name, _ in expressions_of_alerts()}
        b.equal("alerts that no test has seen fire", set(), every - tried)
        b.equal("alerts that no test has seen quiet", set(), every - quiet)
    finally:
        shutil.rmtree(folder)


@case("requests to the API server are counted as client-go counts them", "MET-6")
def requests(b):
    with api(b) as server:
        b.start(objects())
        found = series(b)
        host = server.url().partition("://")[2]
        gets = [r for r in server.requests() if r.get("method", "GET") == "GET"]
        count = found['rest_client_requests_total{code="200",host="%s",method="GET"}' % host]
        b.true("%g requests by GET" % count, 4 <= count <= len(gets), "at least one for each resource, at most %d" % len(gets))
        label = 'host="%s",verb="GET"' % host
        b.equal("durations", count, found["rest_client_request_duration_seconds_count{%s}" % label])
        b.true("their sum", 0 < found["rest_client_request_duration_seconds_sum{%s}" % label] < 60)
        b.until("an Event is posted", 1, lambda: int(series(b).get(
            'rest_client_requests_total{code="201",host="%s",method="POST"}' % host, 0) >= 1))
        b.equal("watches that ended", 0, found['vipmap_watch_restarts_total{resource="services"}'])
        b.equal("connected", 1, found["vipmap_api_server_connected"])
        server.kill()
        b.until("errors are counted", True, lambda: series(b).get(
            'rest_client_requests_total{code="<error>",host="%s",method="GET"}' % host, 0) > 0, 5)
        found = series(b)
        for resource in ("services", "endpointslices", "nodes", "servicecidrs"):
            b.equal("watches of %s that ended" % resource, 1, found['vipmap_watch_restarts_total{resource="%s"}' % resource])
        b.equal("connected", 0, found["vipmap_api_server_connected"])
        b.equal("healthy: the rules are in force", 1, found["vipmap_healthy"])


@case("without an API server there are no metrics about one", "MET-6")
def manifests(b):
    b.start(objects())
    found = series(b)
    b.equal("series", [], [s for s in found if re.match("rest_client|vipmap_api_server|vipmap_watch", s)])
    b.equal("healthy", 1, found["vipmap_healthy"])
    b.equal("conflicts", [2, 2], [found['vipmap_conflicting_vips{ip_family="IPv%d"}' % f] for f in both_families])
    build = [s for s in found if s.startswith("vipmap_build_info{")]
    b.true("a revision in %s" % build, re.search(r'revision="[0-9a-f]{7,}(-dirty)?"', build[0]))
    with netns.inside(b.world.name["node"]):
        with open("/proc/sys/net/netfilter/nf_conntrack_max") as f:
            b.equal("conntrack's limit", float(f.read()), found["vipmap_conntrack_limit"])
    b.equal("ipv6", 1, found['vipmap_kernel_feature{feature="ipv6"}'])
    owned = "owner" in b.in_node("nft", "list", "table", "ip", "vipmap").split("\tmap")[0]
    b.equal("owner of the table", owned, found['vipmap_kernel_feature{feature="table-owner"}'] == 1)


@case("the time from a change to the kernel is measured", "")
def commit(b):
    b.start(objects())
    before = series(b)
    counts = lambda s: [s['vipmap_event_to_commit_seconds_count{ip_family="IPv%d"}' % f] for f in both_families]  # noqa: E731
    b.true("the first sync", min(counts(before)) >= 1)
    for i in range(3):
        b.apply(both("web", 11, ["pod1", "r1"][i % 2:]))
    after = series(b)
    b.equal("changes, by family", [3, 3], [now - was for was, now in zip(counts(before), counts(after))])
    for f in both_families:
        name = 'vipmap_event_to_commit_seconds_sum{ip_family="IPv%d"}' % f
        took = after[name] - before[name]
        b.true("IPv%d: %g s in all" % (f, took), 0 < took < 3)
    b.true("the first bucket is 0.1 ms", 'vipmap_event_to_commit_seconds_bucket{ip_family="IPv4",le="0.0001"}' in after)
    time.sleep(0.1)
    b.equal("nothing without a change", counts(after), counts(series(b)))


@case("a refused configuration shows", "")
def reload(b):
    config = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "nftables",
              "clusterCIDR": "10.180.0.0/16"}
    path = b.program.file("config.json", json.dumps(config))
    b.start(objects(), "--config", path)
    first = series(b)
    b.equal("successful", 1, first["vipmap_config_last_reload_successful"])
    stamp = "vipmap_config_last_reload_success_timestamp_seconds"
    b.true("just now", abs(time.time() - first[stamp]) < 30)
    b.program.file("config.json", json.dumps(dict(config, mode="ipvs")))
    b.program.process.send_signal(signal.SIGHUP)
    b.until("it shows", 0, lambda: series(b)["vipmap_config_last_reload_successful"])
    b.equal("the time of the one in force", first[stamp], series(b)[stamp])
    b.program.file("config.json", json.dumps(dict(config, clusterCIDR="10.181.0.0/16")))
    b.program.process.send_signal(signal.SIGHUP)
    b.until("it is over", 1, lambda: series(b)["vipmap_config_last_reload_successful"])
    b.true("a later time", series(b)[stamp] > first[stamp])

/*
 * Configurations in the shape that Kubernetes distributions write them, files
 * and command lines: each is taken as it is, warns of what has no effect and of
 * nothing else, and its clusterCIDR is in the rules.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/suite.h"
#include "tests/support/program.h"

#define OBJECTS                                                                   \
	"apiVersion: v1\nkind: Node\nmetadata: {name: node1, uid: n1}\n"          \
	"status: {addresses: [{type: InternalIP, address: 192.168.7.11}]}\n---\n" \
	"apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"                  \
	"spec: {clusterIP: 172.30.0.41, ports: [{port: 80}]}\n---\n"              \
	"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"                  \
	"metadata: {name: web-a, labels: {kubernetes.io/service-name: web}}\n"    \
	"addressType: IPv4\nports: [{name: \"\", port: 8080}]\n"                  \
	"endpoints: [{addresses: [10.180.1.1]}]\n"

static const struct {
	const char *name, *file, *flags; /* file: NULL for none */
	const char *has;		 /* in the rules */
	const char *warnings[5];	 /* all of them, in their order */
} rows[] = {
	{ "kubeadm",
	  "kubeadm.yaml",
	  "--hostname-override=node1",
	  "10.180.0.0/16",
	  { NULL } },
	{ "kubespray",
	  "kubespray.yaml",
	  "--hostname-override=node1",
	  "10.180.0.0/16",
	  { "only the first document counts, ignored: KubeletConfiguration",
	    "ipvs.scheduler: has no effect here" } },
	{ "k0s",
	  "k0s.yaml",
	  "--hostname-override=node1",
	  "10.180.0.0/16",
	  { "udpIdleTimeout: unknown field, ignored" } },
	{ "EKS", "eks.yaml", "--v=2 --hostname-override=node1", "172.30.0.41", { NULL } },
	{ "fields and gates of a newer version",
	  "newer.yaml",
	  "--hostname-override=node1",
	  "10.180.0.0/16",
	  { "featureGates.SomethingOfNextYear: not known, ignored",
	    "nftables.offload: unknown field, ignored",
	    "tracing: unknown field, ignored" } },
	{ "k3s",
	  NULL,
	  "--cluster-cidr=10.180.0.0/16 --conntrack-max-per-core=0 "
	  "--conntrack-tcp-timeout-close-wait=0s --conntrack-tcp-timeout-established=0s "
	  "--healthz-bind-address=127.0.0.1 --hostname-override=node1 --proxy-mode=nftables",
	  "10.180.0.0/16",
	  { NULL } },
	{ "RKE2",
	  NULL,
	  "--cluster-cidr=10.180.0.0/16,fd00:42::/56 --conntrack-max-per-core=0 "
	  "--conntrack-tcp-timeout-close-wait=0s --conntrack-tcp-timeout-established=0s "
	  "--healthz-bind-address=[::1] --hostname-override=node1 --proxy-mode=nftables",
	  "fd00:42::/56",
	  { NULL } },
	{ "kops",
	  NULL,
	  "--cluster-cidr=10.180.0.0/16 --conntrack-max-per-core=131072 "
	  "--hostname-override=node1 --oom-score-adj=-998 --proxy-mode=nftables --v=2",
	  "10.180.0.0/16",
	  { NULL } },
	{ "Talos",
	  NULL,
	  "--cluster-cidr=10.180.0.0/16 --conntrack-max-per-core=0 --hostname-override=node1 "
	  "--proxy-mode=nftables --metrics-bind-address=0.0.0.0:10249",
	  "10.180.0.0/16",
	  { NULL } },
};

/* Each line is the next of the warnings, and there is one for each. */
static void check_warnings(int row, const char *err)
{
	unsigned int n = 0;

	while (*err) {
		const char *end = strchr(err, '\n');

		ck_assert_ptr_nonnull(end);
		ck_assert_msg(n < 5 && rows[row].warnings[n] &&
				      memmem(err, (size_t)(end - err),
					     rows[row].warnings[n],
					     strlen(rows[row].warnings[n])),
			      "%s: not expected: %.*s", rows[row].name,
			      (int)(end - err), err);
		err = end + 1;
		n++;
	}
	ck_assert_msg(n == 5 || !rows[row].warnings[n], "%s: want %s",
		      rows[row].name, rows[row].warnings[n]);
}

START_TEST(taken_as_it_is)
{
	struct strbuf out = STRBUF_INIT, err = STRBUF_INIT;
	char command[640], *folder = realpath("tests/data/distributions", NULL);
	struct scratch scratch;
	int status;

	scratch_enter(&scratch);
	write_file("objects.yaml", OBJECTS);
	snprintf(command, sizeof(command),
		 "./vipmap %s%s%s%s %s --manifests objects.yaml --dry-run",
		 rows[_i].file ? "--config=" : "", rows[_i].file ? folder : "",
		 rows[_i].file ? "/" : "", rows[_i].file ? rows[_i].file : "",
		 rows[_i].flags);
	status = run_apart(command, &out, &err);
	ck_assert_msg(status == 0, "%s: status %d:\n%s", rows[_i].name, status,
		      err.text);
	ck_assert_msg(
		strstr(out.text, rows[_i].has) && strstr(out.text, "10.180.1.1"),
		"%s: want %s in\n%s", rows[_i].name, rows[_i].has, out.text);
	check_warnings(_i, err.text);
	free(folder);
	scratch_leave(&scratch);
	strbuf_free(&out);
	strbuf_free(&err);
}
END_TEST

/* Most of them say iptables unless they are told otherwise. */
START_TEST(another_mode_is_refused)
{
	struct strbuf out = STRBUF_INIT, err = STRBUF_INIT;
	struct scratch scratch;
	char command[512], *folder = realpath("tests/data/distributions", NULL);

	scratch_enter(&scratch);
	write_file("objects.yaml", OBJECTS);
	snprintf(command, sizeof(command),
		 "sed 's/^mode: .*/mode: \"iptables\"/' %s/eks.yaml >eks.yaml && "
		 "./vipmap --config=eks.yaml --manifests objects.yaml --dry-run",
		 folder);
	ck_assert_int_eq(run_apart(command, &out, &err), 2);
	ck_assert_msg(strstr(err.text, "mode: \"iptables\" is not offered"),
		      "%s", err.text);
	free(folder);
	scratch_leave(&scratch);
	strbuf_free(&out);
	strbuf_free(&err);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("distributions");
	TCase *tc = tcase_create("distributions");

	tcase_set_timeout(tc, 60);
	ADD_LOOP(tc, taken_as_it_is, rows);
	tcase_add_test(tc, another_mode_is_refused);
	suite_add_tcase(suite, tc);
	return suite;
}

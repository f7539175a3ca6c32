#include "proxy/commands/commands.h"

#include <errno.h>
#include <string.h>

#include "proxy/daemon.h"

static const struct command commands[] = {
	{
		.word = "status",
		.synopsis = "status [--ready] [--wait DURATION] [-o json|yaml]",
		.help = "Says how the vipmap of this node does: 0 if all is well, 1 if something "
			"is not, 4 if none runs here.\n\n"
			"  vipmap status\n"
			"  vipmap status --ready           one line, for probes\n"
			"  vipmap status --wait 30s        until it is ready, or not\n",
		.flags = status_flags,
		.check = command_status_check,
		.run = command_status,
	},
	{
		.word = "get",
		.synopsis = "get services|endpoints|node|config|vipmap-config "
			    "[[NAMESPACE/]NAME[:PORT] ...]",
		.help = "Shows what the running vipmap knows: Services by port, with what traffic "
			"to them\nmeets; their endpoints, and why each is used or not; this node; "
			"the configuration\nin force.\n\n"
			"  vipmap get services -n prod -o wide\n"
			"  vipmap get endpoints prod/shop:https\n"
			"  vipmap get services -w\n",
		.flags = get_flags,
		.takes_flags = true,
		.check = command_get_check,
		.run = command_get,
	},
	{
		.word = "explain",
		.synopsis = "explain [SOURCE] DESTINATION | SRC PROTO DST PORT | SRC icmp DST",
		.help = "Says what becomes of a packet: the Service it meets, the verdict, each "
			"endpoint and why it\nmay be drawn or not, and whether the kernel agrees. "
			"DESTINATION is an address with port, or\na Service, SOURCE an address or "
			"the Pod of an endpoint; without it, some pod.\n\n"
			"  vipmap explain prod/shop:https\n"
			"  vipmap explain prod/frontend-1 '[fd00::a]:53/udp'\n"
			"  vipmap explain 10.244.1.5 tcp 10.96.0.1 443\n"
			"  vipmap explain 10.244.1.5 icmp 10.96.0.1\n"
			"  vipmap explain --manifests objects.yaml 10.96.0.1:443    not the "
			"running "
			"one\n",
		.flags = explain_flags,
		.takes_flags = true,
		.check = command_explain_check,
		.run = command_explain,
	},
	{
		.word = "top",
		.synopsis = "top [-1] [--interval DURATION] [-o json|yaml] [FILTER]",
		.help = "Shows who has how many connections, and how many of them are new: "
			"Services, "
			"their endpoints,\nthe flows of one. On a terminal it refreshes; Enter "
			"goes "
			"deeper, Esc back, c, n and s sort,\n/ filters, q ends it.\n\n"
			"  vipmap top\n"
			"  vipmap top -1 kube-system/      one frame, of these Services\n"
			"  vipmap top -o json\n",
		.flags = top_flags,
		.check = command_top_check,
		.run = command_top,
	},
	{
		.word = "flows",
		.synopsis = "flows [[NAMESPACE/]NAME[:PORT]]",
		.help = "Lists the connections that were translated, by Service: conntrack's "
			"entries, read "
			"on demand.\n\n"
			"  vipmap flows prod/shop\n"
			"  vipmap flows --limit 100 -o json\n",
		.flags = flows_flags,
		.check = command_flows_check,
		.run = command_flows,
	},
	{
		.word = "monitor",
		.synopsis = "monitor [-o json] [FILTER]",
		.help = "Tells what changes, as it happens, until it is interrupted: endpoints and "
			"why they go, Services,\nthis node, the configuration, the API server; and "
			"when it was in the kernel.\n\n"
			"  vipmap monitor\n"
			"  vipmap monitor prod/shop        only these Services, and what is no "
			"Service\n"
			"  vipmap monitor -o json          one object a line\n",
		.flags = monitor_flags,
		.check = command_monitor_check,
		.run = command_monitor,
	},
	{
		.word = "diff",
		.synopsis = "diff [FLAG ...]",
		.help = "Compares what is wanted with what the kernel has: a line each, with - "
			"what is "
			"in the kernel\nand should not be, with + what is missing. 0 if there is "
			"nothing to say, 1 if they differ.\n\n"
			"  vipmap diff                                  what runs\n"
			"  vipmap diff --manifests objects.yaml         what these objects would "
			"change\n",
		.takes_flags = true,
		.check = command_diff_check,
		.run = command_diff,
	},
	{
		.word = "preflight",
		.synopsis = "preflight [FLAG ...]",
		.help = "Looks whether vipmap would work here, and changes nothing: the kernel, "
			"the API "
			"server and the\nrights there, the configuration, other proxies, "
			"conntrack. 0 "
			"if it would, 1 if not, 3 if the\nkernel lacks something.\n\n"
			"  vipmap preflight --config /var/lib/kube-proxy/config.conf\n",
		.judges_config = true,
		.takes_flags = true,
		.check = command_preflight_check,
		.run = command_preflight,
	},
	{
		.word = "debug",
		.synopsis = "debug > FILE.tar",
		.help = "Writes an archive for whoever looks for a fault later: status, "
			"configuration, "
			"objects, the\ntable that is wanted and where the kernel differs, metrics, "
			"the "
			"last lines of the log. There are\nno secrets in it.\n\n"
			"  vipmap debug > bundle.tar\n",
		.check = command_debug_check,
		.run = command_debug,
	},
	{
		.word = "completion",
		.synopsis = "completion bash|zsh|fish",
		.help = "Prints a script that has a shell complete commands and flags.\n\n"
			"  source <(vipmap completion bash)      or zsh\n"
			"  vipmap completion zsh > \"${fpath[1]}/_vipmap\"\n"
			"  vipmap completion fish > ~/.config/fish/completions/vipmap.fish\n",
		.check = command_completion_check,
		.run = command_completion,
	},
	{
		.word = "version",
		.synopsis = "version [-o json|yaml]",
		.help = "Prints the version and the revision of the sources.\n\n"
			"  vipmap version -o json\n",
		.flags = version_flags,
		.check = command_version_check,
		.run = command_version,
	},
};

enum { N_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

const struct command *command_find(const char *word)
{
	size_t i;

	for (i = 0; i < N_COMMANDS; i++)
		if (strcmp(commands[i].word, word) == 0)
			return &commands[i];
	return NULL;
}

const struct command *command_at(size_t i)
{
	return i < N_COMMANDS ? &commands[i] : NULL;
}

int command_run(struct app *app, struct options *options)
{
	static int (*const actions[])(struct app *, struct options *) = {
		[ACTION_RUN] = daemon_run,
		[ACTION_ONCE] = command_once,
		[ACTION_DRY_RUN] = command_dry_run,
		[ACTION_INIT_ONLY] = command_init_only,
		[ACTION_CLEANUP] = command_cleanup,
		[ACTION_WRITE_CONFIG] = command_write_config,
		[ACTION_VERSION] = command_version,
		[ACTION_HELP] = command_help,
	};
	int status;

	if (options->action != ACTION_RUN)
		app_release_hangup();
	if (options->action == ACTION_COMMAND)
		status = options->command->run(app, options);
	else
		status = actions[options->action](app, options);
	options_free(options);
	return status;
}

#include "watch/resource.h"

#include "proxy/base/strbuf.h"
#include "watch/http.h"

static const struct resource resources[N_KINDS] = {
	[KIND_SERVICE] = { /* API-1; what the field selector leaves out is SVC-1 as well */
		.path = "/api/v1/services",
		.list_kind = "ServiceList",
		.selector = "labelSelector=%21service.kubernetes.io%2Fservice-proxy-name&",
		.optional_selector = "fieldSelector=spec.clusterIP%21%3DNone&",
	},
	[KIND_SLICE] = { /* API-2 */
		.path = "/apis/discovery.k8s.io/v1/endpointslices",
		.list_kind = "EndpointSliceList",
		.selector = "labelSelector=%21service.kubernetes.io%2Fheadless&",
	},
	[KIND_SERVICE_CIDR] = { /* API-3 */
		.path = "/apis/networking.k8s.io/v1/servicecidrs",
		.list_kind = "ServiceCIDRList",
		.selector = "",
		.refusable = true,
	},
	[KIND_NODE] = { /* API-4 */
		.path = "/api/v1/nodes",
		.list_kind = "NodeList",
		.selector = "",
		.of_node = true,
	},
};

const struct resource *resource_of(enum kind kind)
{
	return &resources[kind];
}

void resource_path(const struct resource *resource, const char *node_name,
		   bool optional_selector, struct strbuf *path)
{
	strbuf_addf(path, "%s?%s", resource->path, resource->selector);
	if (optional_selector && resource->optional_selector)
		strbuf_adds(path, resource->optional_selector);
	if (resource->of_node) {
		strbuf_adds(path, "fieldSelector=metadata.name%3D");
		http_escape(path, node_name);
		strbuf_addc(path, '&');
	}
}

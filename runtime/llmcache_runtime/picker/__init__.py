"""The endpoint picker: the routing policy as an external processor of a gateway that has its own data path.

It speaks Envoy's ext_proc as the Gateway API Inference Extension's endpoint picker protocol asks (docs/proposals/
004-endpoint-picker-protocol of kubernetes-sigs/gateway-api-inference-extension, version 1.0): a gateway tells of each
request, and is told which engines to try, in order. What is known of engines is the router's; see `router.knowledge`.
"""

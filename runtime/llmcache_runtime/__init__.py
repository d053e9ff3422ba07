"""What runs beside the engines: the start gate, the routing policy and the router."""

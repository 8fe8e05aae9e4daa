"""Container networks: the default bridge, address management, published ports, all by iproute2 and nftables."""

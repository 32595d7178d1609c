"""A chat over WebSockets: the token in the handshake, checked again while the socket is open."""

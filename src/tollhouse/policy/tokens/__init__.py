"""Signed tokens (JWT, RFC 7519): those that this gateway issues, and those of OIDC issuers.

A token says who calls, until when, and by our own claim `tollhouse` what they may do.  It is good by its signature, so nobody
looks anything up for it; what the gateway has to remember is only which tokens were taken back and which keys sign.

`compact` and `claims` read what came, `signatures` wraps PyJWT and cryptography, `grants` makes a principal, `verifier` puts
them together on a call's way.  `issuing` is for whoever makes and revokes tokens, `secrets_file` keeps what signs them.
`jwks` and `issuer_keys` are about the keys of OIDC issuers.  Nothing here imports PyJWT before the first token arrives.
"""

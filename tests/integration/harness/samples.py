"""Custom resources as SAP's documentation, scripts and users write them, with the placeholders
filled in."""

import copy

INSTANCE = "dest-service-instance"
HOME = "sap-transp-proxy-system"
TENANTS = "transparent-proxy.connectivity.api.sap/tenant-subdomains"


def destination(name: str, spec: dict | None, **metadata: object) -> dict:
    cr = {
        "apiVersion": "destination.connectivity.api.sap/v1",
        "kind": "Destination",
        "metadata": {"name": name, **metadata},
    }
    return cr if spec is None else {**cr, "spec": spec}


def mailbox(name: str, of: str = "example-dest-pop3", **spec: object) -> dict:
    return destination(name, {"destinationRef": {"name": of}, **spec})


def transparent_proxy(spec: dict) -> dict:
    return {
        "apiVersion": "operator.kyma-project.io/v1alpha1",
        "kind": "TransparentProxy",
        "metadata": {"name": "transparent-proxy", "namespace": HOME},
        "spec": spec,
    }


def instance(name: str, key: str | None, **more: object) -> dict:
    """Returns an entry of config.integration.destinationService.instances."""
    credentials = {"secretKey": key, "secretName": name, "secretNamespace": HOME, **more}
    return {"name": name, "serviceCredentials": credentials}


# These are accepted.
DESTINATIONS = {
    "usual": mailbox("mail-a", destinationServiceInstanceName=INSTANCE),
    "pop3s": mailbox("mail-s", "example-dest-pop3s", destinationServiceInstanceName=INSTANCE),
    "default instance, for all": mailbox("mail-b", accessControl={"scope": "clusterWide"}),
    "default instance, for its namespace": mailbox("mail-b", accessControl={"scope": "namespaced"}),
    "fragment": mailbox(
        "mail-c",
        fragmentRef={"name": "example-fragment"},
        destinationServiceInstanceName=INSTANCE,
    ),
    "optional fragment": mailbox(
        "mail-d",
        fragmentRef={"name": "example-fragment", "optional": True},
        destinationServiceInstanceName=INSTANCE,
    ),
    "levels": destination(
        "mail-e",
        {
            "destinationRef": {"name": "example-dest-pop3", "level": "provider_subaccount"},
            "fragmentRef": {"name": "example-fragment", "level": "provider_instance"},
            "destinationServiceInstanceName": INSTANCE,
        },
    ),
    "chain": mailbox(
        "mail-f",
        chainRef={
            "name": "chain-name",
            "variables": [{"name": "key1", "value": "value1"}, {"name": "key2", "value": "value2"}],
        },
    ),
    "port": mailbox("mail-g", destinationServiceInstanceName=INSTANCE, service={"port": 1110}),
    "tenants": destination(
        "mail-h",
        {
            "destinationRef": {"name": "example-dest-pop3"},
            "destinationServiceInstanceName": INSTANCE,
        },
        annotations={TENANTS: '["tenant-subdomain", "another-tenant-subdomain"]'},
    ),
    "gateway": mailbox("destination-gateway", "*", destinationServiceInstanceName=INSTANCE),
    "chain for SAML": mailbox(
        "saml",
        "samlAssertionConsumerDest",
        destinationServiceInstanceName=INSTANCE,
        chainRef={
            "name": "com.sap.iasGeneratedOAuth2SamlBearerAssertion",
            "variables": [
                {"name": "samlProviderDestinationName", "value": "samlAssertionProviderDest"},
                {
                    "name": "subjectTokenType",
                    "value": "urn:ietf:params:oauth:token-type:access_token",
                },
            ],
        },
    ),
    "action": mailbox(
        "jwtbearer-example",
        "http",
        actions=[
            {
                "name": "OAuth2JWTBearer",
                "secretRef": {"name": "jwtbearer-credentials", "key": "credentials"},
                "triggers": [
                    {
                        "name": "exactMatch",
                        "matches": [
                            {"destinationProperty": "HTML5.ForwardAuthToken", "value": "true"}
                        ],
                    },
                    {
                        "name": "exist",
                        "destinationProperties": ["tokenService.body.resource"],
                    },
                ],
            }
        ],
    ),
    # This is newer than the published schema.
    "new action": mailbox(
        "tup-example",
        "onpremise-http",
        actions=[
            {
                "name": "OAuth2TechnicalUserPropagation",
                "secretRef": {"name": "tup-credentials", "key": "credentials"},
            }
        ],
    ),
}

# Several pages of the documentation print destinationRef below metadata. It is refused, because
# spec is missing.
MISPRINT = destination(
    "mail-h",
    None,
    annotations={TENANTS: '["tenant-subdomain"]'},
    destinationRef={"name": "example-dest-pop3"},
)

_SIZES = {
    kind: {part: {"cpu": cpu, "memory": memory} for part in ("requests", "limits")}
    for kind, cpu, memory in (("http", 0.05, "192M"), ("tcp", 0.01, "64M"))
}


def _published(name: str, key: str | None) -> dict:
    """Returns the tp.yaml of SAP's repository."""
    return {
        "compliance": {"fipsModeEnabled": False},
        "config": {
            "metrics": {"prometheus": {"enabled": True}},
            "logging": {"level": "info"},
            "security": {"communication": {"internal": {"encryptionEnabled": True}}},
            "integration": {
                "destinationService": {
                    "defaultInstanceName": name,
                    "instances": [instance(name, key)],
                },
                "serviceMesh": {"istio": {"istio-injection": "enabled"}},
            },
        },
        "deployment": {"resources": _SIZES},
    }


def _documented(published: dict) -> dict:
    """Returns the same object as the documentation prints it."""
    shorter = copy.deepcopy(published)
    del shorter["compliance"], shorter["deployment"]
    del shorter["config"]["metrics"], shorter["config"]["logging"]
    return shorter


def _integration(**parts: dict) -> dict:
    return {"config": {"integration": parts}}


# These are accepted and stored unchanged.
TRANSPARENT_PROXIES = {
    "published": transparent_proxy(_published(INSTANCE, "defaultKey")),
    # SAP's script makes this of it if the BTP service operator binds the instance.
    "BTP service operator": transparent_proxy(_published("sap-transp-proxy-default", None)),
    "documented": transparent_proxy(_documented(_published(INSTANCE, "defaultKey"))),
    "Kyma": transparent_proxy(
        {
            "config": {
                "security": {"communication": {"internal": {"encryptionEnabled": True}}},
                "integration": {"serviceMesh": {"istio": {"istio-injection": "enabled"}}},
            }
        }
    ),
    "timeouts": transparent_proxy(
        _integration(
            destinationService={
                "connectionTimeoutSeconds": 5,
                "readTimeoutSeconds": 10,
                "instances": [instance(INSTANCE, "k")],
            }
        )
    ),
    "private key": transparent_proxy(
        _integration(
            destinationService={
                "instances": [
                    instance("one", "k"),
                    instance(
                        "two",
                        "k",
                        privateKey={
                            "secretName": "x509-svc-key-secret-name",
                            "secretInternalKey": "key",
                        },
                    ),
                ]
            }
        )
    ),
    "Connectivity Proxy": transparent_proxy(
        _integration(
            connectivityProxy={
                "serviceName": "connectivity-proxy.cp-ns",
                "connectionTimeoutSeconds": 1,
            },
            destinationService={
                "instances": [
                    {
                        **instance("one", "k"),
                        "associateWith": {
                            "connectivityProxy": {"locallyConfiguredRegionId": "region1"}
                        },
                    }
                ]
            },
        )
    ),
    "certificates": transparent_proxy(
        {
            "config": {
                "security": {
                    "communication": {
                        "internal": {
                            "certManager": {
                                "issuerRef": {"name": "issuer", "kind": "Issuer"},
                                "certificate": {
                                    "privateKey": {
                                        "algorithm": "ECDSA",
                                        "encoding": "PKCS8",
                                        "size": 256,
                                    },
                                    "duration": "720h",
                                    "renewBefore": "240h",
                                },
                            }
                        }
                    }
                }
            }
        }
    ),
    "mesh": transparent_proxy(_integration(serviceMesh={"istio": {"istio-injection": "enabled"}})),
    "metrics": transparent_proxy({"config": {"metrics": {"prometheus": {"enabled": True}}}}),
}


def _mail(protocol: str, port: str, proxy: str, authentication: str, **own: str) -> dict:
    """Returns a mail destination with the properties that the documentation prints."""
    host = "pop.gmail.com" if proxy == "Internet" else "virtual-host"
    return {
        "Name": f"example-dest-{protocol}",
        "Type": "MAIL",
        "ProxyType": proxy,
        "Authentication": authentication,
        "mail.user": "mail-user@example.com",
        "mail.transport.protocol": protocol,
        f"mail.{protocol}.host": host,
        f"mail.{protocol}.port": port,
        f"mail.{protocol}.auth": "true",
        **own,
    }


# For each way of authentication the properties of its own.
_PASSWORD = {"mail.password": "Scripted-Pa55word"}
_CLIENT = {
    "clientId": "example-client",
    "clientSecret": "Scripted-Pa55word",
    "tokenServiceURL": "https://login.example.com/oauth2/token",
    "tokenServiceURLType": "Dedicated",
}
_AUTHENTICATIONS = {
    "BasicAuthentication": _PASSWORD,
    "OAuth2ClientCredentials": {**_CLIENT, "scope": "https://mail.example.com/.default"},
    "OAuth2RefreshToken": _CLIENT,
    "OAuth2AuthorizationCode": _CLIENT,
}

# The twelve mail destinations. Those of pop3s have a password beside tokens, too, which counts for
# nothing.
MAIL_DESTINATIONS = {
    **{
        f"pop3, {proxy}, {authentication}": _mail("pop3", "110", proxy, authentication, **own)
        for proxy in ("Internet", "OnPremise")
        for authentication, own in _AUTHENTICATIONS.items()
    },
    **{
        f"pop3s, {authentication}": _mail(
            "pop3s", "995", "Internet", authentication, **{**_PASSWORD, **own}
        )
        for authentication, own in _AUTHENTICATIONS.items()
    },
}

# An older page prints one without Authentication.
MAIL_WITHOUT_AUTHENTICATION = {
    name: value
    for name, value in _mail("pop3", "464", "Internet", "", **_PASSWORD).items()
    if name != "Authentication"
}

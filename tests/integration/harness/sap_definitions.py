"""SAP's CustomResourceDefinitions, restated from what it publishes (Transparent Proxy 1.9.9): the
`versions` of each. They refuse what ours accept: keys that are unknown, and new actions."""

LEVELS = ["subaccount", "instance", "provider_subaccount", "provider_instance"]


def text(**more: object) -> dict:
    return {"type": "string", **more}


NUMBER, FLAG, DECIMAL = {"type": "integer"}, {"type": "boolean"}, {"type": "number"}


def a_list(items: dict, **more: object) -> dict:
    return {"type": "array", "items": items, **more}


def fields(*required: str, **properties: dict) -> dict:
    """Returns the schema of an object with these properties."""
    schema: dict = {"type": "object", "properties": properties}
    return {**schema, "required": list(required)} if required else schema


def texts(*names: str) -> dict[str, dict]:
    return {name: text() for name in names}


def version(name: str, schema: dict, *columns: tuple[str, str, str]) -> dict:
    return {
        "name": name,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {"name": column, "type": kind, "jsonPath": path} for column, kind, path in columns
        ],
        "schema": {"openAPIV3Schema": schema},
    }


# --- Destination ---

_ACTIONS = a_list(
    fields(
        "name",
        "secretRef",
        "triggers",
        name=text(enum=["OAuth2JWTBearer", "OAuth2ClientCredentials"]),
        secretRef=fields("name", "key", **texts("name", "key", "namespace")),
        triggers=a_list(
            fields(
                "name",
                name=text(enum=["exist", "exactMatch"]),
                destinationProperties=a_list(text(minLength=1), minItems=1),
                destinationLabelKeys=a_list(text(minLength=1), minItems=1),
                matches=a_list(
                    fields(
                        **texts("destinationProperty", "value", "destinationLabelKey"),
                        values=a_list(text(minLength=1), minItems=1),
                    ),
                    minItems=1,
                ),
            ),
            minItems=1,
        ),
    )
)

_DESTINATION_SPEC = fields(
    "destinationRef",
    destinationRef=fields("name", name=text(minLength=1), level=text(enum=LEVELS)),
    fragmentRef={
        **fields(name=text(), level=text(enum=LEVELS), optional={**FLAG, "default": False}),
        "x-kubernetes-validations": [{"rule": "!(has(self.level) && !has(self.name))"}],
    },
    chainRef=fields(name=text(), variables=a_list(fields(**texts("name", "value")))),
    destinationServiceInstanceName=text(),
    service=fields(port={**NUMBER, "minimum": 1, "maximum": 65535}),
    accessControl=fields(scope=text(enum=["clusterWide", "namespaced"])),
    actions=_ACTIONS,
)

_DESTINATION_STATUS = fields(
    conditions=a_list(
        fields(
            **texts("type", "reason", "message", "lastUpdateTime"),
            status=text(pattern="^(True|False|Unknown)$"),
        )
    ),
    tenants=a_list(fields(tenantSubdomain=text())),
)

DESTINATION = [
    version(
        "v1",
        fields("spec", spec=_DESTINATION_SPEC, status=_DESTINATION_STATUS),
        ("Age", "date", ".metadata.creationTimestamp"),
        ("DestinationRef", "string", ".spec.destinationRef.name"),
        ("FragmentRef", "string", ".spec.fragmentRef.name"),
        ("DestinationServiceInstanceName", "string", ".spec.destinationServiceInstanceName"),
        ("ServicePort", "string", ".spec.service.port"),
        ("AccessControlScope", "string", ".spec.accessControl.scope"),
        ("ChainRef", "string", ".spec.chainRef.name"),
        ("Status", "string", ".status.conditions[-1].reason"),
    )
]

# --- TransparentProxy ---

_PRIVATE_KEY = fields(**texts("secretName", "secretInternalKey", "secretNamespace"))
_CREDENTIALS = fields(
    **texts("secretName", "secretKey", "secretNamespace"), privateKey=_PRIVATE_KEY
)

_INSTANCE = fields(
    "name",
    "serviceCredentials",
    name=text(),
    serviceCredentials=_CREDENTIALS,
    associateWith=fields(
        "connectivityProxy",
        connectivityProxy=fields("locallyConfiguredRegionId", locallyConfiguredRegionId=text()),
    ),
)

_INTEGRATION = fields(
    connectivityProxy=fields(
        **texts("serviceName", "type"),
        httpPort=NUMBER,
        tcpPort=NUMBER,
        servicePort=NUMBER,
        connectionTimeoutSeconds=NUMBER,
        serviceCredentials=_CREDENTIALS,
    ),
    destinationService=fields(
        defaultInstanceName=text(),
        connectionTimeoutSeconds=NUMBER,
        readTimeoutSeconds=NUMBER,
        instances=a_list(_INSTANCE),
    ),
    serviceMesh=fields(istio=fields(**{"istio-injection": text()})),
    ztis=fields(socketPath=text()),
)

_RESOURCES = fields(
    requests=fields(cpu=DECIMAL, memory=text()), limits=fields(cpu=DECIMAL, memory=text())
)

_PROXY_SPEC = fields(
    additionalCAs=fields(**texts("secretKey", "secretName", "secretNamespace")),
    compliance=fields(fipsModeEnabled=FLAG),
    config=fields(
        http=fields(retry=fields(maxRetries=NUMBER, statusCodes=a_list(NUMBER))),
        logging=fields(level=text()),
        managedNamespacesMode=text(),
        tenantMode=text(),
        manager=fields(executionIntervalMinutes=NUMBER),
        metering=fields(enabled=FLAG),
        metrics=fields(prometheus=fields(enabled=FLAG)),
        integration=_INTEGRATION,
        security=fields(
            accessControl=fields(destinations=fields(defaultScope=text())),
            communication=fields(internal=fields(encryptionEnabled=FLAG)),
        ),
    ),
    deployment=fields(
        replicas=fields(http=NUMBER, tcp=NUMBER),
        resources=fields(http=_RESOURCES, manager=_RESOURCES, tcp=_RESOURCES),
    ),
)

_PROXY_STATUS = fields(
    "state",
    state=text(enum=["Processing", "Deleting", "Ready", "Error", "Warning"]),
    defaultServiceInstanceInitialized=FLAG,
    conditions=a_list(
        fields(
            "type",
            "status",
            "reason",
            "message",
            "lastTransitionTime",
            type=text(maxLength=316),
            status=text(enum=["True", "False", "Unknown"]),
            reason=text(
                minLength=1, maxLength=1024, pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
            ),
            message=text(maxLength=32768),
            lastTransitionTime=text(format="date-time"),
            observedGeneration={**NUMBER, "format": "int64", "minimum": 0},
        )
    ),
)

TRANSPARENT_PROXY = [version("v1alpha1", fields(spec=_PROXY_SPEC, status=_PROXY_STATUS))]

"""The manifests, applied to a real API server: they fit together, they grant what is documented and
no more, and the custom resources accept what SAP's accept."""

import base64
import copy
import json
import os
import re
import shutil
import subprocess

import pytest

from harness.documents import blocks, section, stand_in
from harness.kube import ApiError, Kube
from harness.samples import DESTINATIONS, HOME, MISPRINT, TRANSPARENT_PROXIES, mailbox
from harness.tproxy import ROOT
from harness.util import PATIENCE, until

MANIFESTS = ROOT / "manifests"
USER = f"system:serviceaccount:{HOME}:tproxy"
CRS = "/apis/destination.connectivity.api.sap/v1/namespaces"
CONFIGURATION = (
    f"/apis/operator.kyma-project.io/v1alpha1/namespaces/{HOME}/transparentproxies"
    "/transparent-proxy"
)


def rendered(kube: Kube, place: str = ".") -> list[dict]:
    """Returns the objects that kustomize makes in a directory, without what the API server would
    add."""
    arguments = ["apply", "-k", str(MANIFESTS / place), "--dry-run=client", "-o", "json"]
    shown = json.loads(kube.kubectl(*arguments).stdout)
    return shown.get("items", [shown])


def only(objects: list[dict], kind: str, name: str = "") -> dict:
    (found,) = [
        item for item in objects if item["kind"] == kind and name in ("", item["metadata"]["name"])
    ]
    return found


@pytest.fixture(scope="module")
def installed(kube) -> Kube:
    kube.reset()
    kube.kubectl("apply", "-k", str(MANIFESTS))
    kube.kubectl("wait", "--for=condition=Established", "crd", "--all")
    kube.kubectl("get", "dst,tp", "--all-namespaces")  # kubectl waits until the kinds are served
    return kube


@pytest.fixture(scope="module")
def objects(installed) -> list[dict]:
    return rendered(installed)


@pytest.fixture(scope="module")
def deployment(objects) -> dict:
    return only(objects, "Deployment")


@pytest.fixture(scope="module")
def pod(deployment) -> dict:
    template = deployment["spec"]["template"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": "tproxy-test", "namespace": HOME},
        "spec": template["spec"],
    }


# --- the installation ---


def test_dry_run(kube):
    """The manifests can be applied unchanged to a namespace that enforces the restricted standard
    and warns about violations."""
    kube.reset()
    kube.kubectl("apply", "-f", str(MANIFESTS / "base/namespace.yaml"))
    done = kube.kubectl("apply", "--dry-run=server", "-k", str(MANIFESTS))
    assert "deployment.apps/tproxy created" in done.stdout
    assert not done.stderr, "warnings"


def test_applied_again_changes_nothing(installed):
    """kubectl calls a PodDisruptionBudget "configured" whenever it is applied, so the versions of the
    objects are compared."""

    def versions() -> dict[str, str]:
        there = json.loads(installed.kubectl("get", "-o", "json", "-k", str(MANIFESTS)).stdout)
        metadata = [item["metadata"] for item in there["items"]]
        return {each["uid"]: each["resourceVersion"] for each in metadata}

    before = versions()
    installed.kubectl("apply", "-k", str(MANIFESTS))
    assert before and versions() == before


def admission(kube: Kube, pod: dict) -> subprocess.CompletedProcess:
    arguments = ["create", "--dry-run=server", "-f", "-"]
    return kube.kubectl(*arguments, input=json.dumps(pod), check=False)


def test_pod_meets_the_restricted_standard(installed, pod):
    done = admission(installed, pod)
    assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.parametrize("field", ["allowPrivilegeEscalation", "capabilities"])
def test_namespace_refuses_a_pod_with_more_rights(installed, pod, field):
    (container,) = pod["spec"]["containers"]
    context = {key: value for key, value in container["securityContext"].items() if key != field}
    containers = [{**container, "securityContext": context}]
    done = admission(installed, {**pod, "spec": {**pod["spec"], "containers": containers}})
    assert done.returncode and "PodSecurity" in done.stderr


def test_cleanup_meets_the_restricted_standard(installed, pod):
    """Its Job is like the Deployment's pod, but without the labels by which clients get there."""
    job = only(rendered(installed, "cleanup"), "Job")
    template = job["spec"]["template"]
    ours = {**pod, "metadata": {"name": "c", "namespace": HOME}, "spec": template["spec"]}
    done = admission(installed, ours)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert template["spec"]["serviceAccountName"] == pod["spec"]["serviceAccountName"]
    assert template["spec"]["securityContext"] == pod["spec"]["securityContext"]
    (container,), (usual,) = template["spec"]["containers"], pod["spec"]["containers"]
    assert container["image"] == usual["image"]
    assert container["securityContext"] == usual["securityContext"]
    assert not template["metadata"]["labels"].keys() & {
        "app.kubernetes.io/name",
        "app.kubernetes.io/instance",
    }


def test_root_is_read_only(deployment):
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_user_is_that_of_the_image(image, pod):
    context = pod["spec"]["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == image.config["User"]


def test_two_replicas(deployment):
    """One is elected to write. A rollout adds a pod before it ends one, and the nodes differ if
    possible."""
    spec = deployment["spec"]
    assert spec["replicas"] == 2
    bounds = {"maxUnavailable": 0, "maxSurge": 1}
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": bounds}
    (container,) = spec["template"]["spec"]["containers"]
    assert "--leader-elect" in container["command"]
    (spread,) = spec["template"]["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"] == spec["selector"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway"


def test_command_is_that_of_the_image(image, deployment):
    """It stands in the place of the image's, and leaves the arguments to overlays."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert [container["command"][0]] == image.config["Entrypoint"]
    assert "args" not in container


def test_pods_are_evicted_one_after_the_other(objects, deployment):
    spec = only(objects, "PodDisruptionBudget")["spec"]
    assert spec == {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}


def test_the_end_has_the_time_it_needs(deployment):
    """The program accepts clients for a while, and then waits for its sessions."""
    source = (ROOT / "tproxy/options.c").read_text()
    waits = re.findall(r"--(?:drain-delay|grace) S .*\((\d+)[,)]", source)
    assert len(waits) == 2
    grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > sum(map(int, waits)) + 5


def test_overlay_for_one_replica(installed, objects):
    """The installation is the same except for the number of replicas."""
    single = rendered(installed, "overlays/single")
    usual = only(objects, "Deployment")["spec"]
    assert only(single, "Deployment")["spec"] == {**usual, "replicas": 1}
    names = [
        sorted((item["kind"], item["metadata"]["name"]) for item in each)
        for each in (objects, single)
    ]
    assert names[0] == names[1]


def test_selectors(objects, deployment):
    """All selectors match the pod, including the one that the program puts into its Services."""
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert selector.items() <= labels.items()
    policy = only(objects, "NetworkPolicy")["spec"]
    services = [item["spec"]["selector"] for item in objects if item["kind"] == "Service"]
    assert len(services) == 2
    assert all(wanted == selector for wanted in [*services, policy["podSelector"]["matchLabels"]])
    source = (ROOT / "controller/plan.h").read_text()
    text = re.search(r"define PLAN_POD_LABELS[\s\\]+\"(.*)\"$", source, re.MULTILINE).group(1)
    assert json.loads("{" + text.replace('\\"', '"') + "}") == selector


def test_names_of_the_runbooks(objects, deployment):
    template = deployment["spec"]["template"]
    component = "transparent-proxy.connectivity.api.sap/component"
    assert template["metadata"]["labels"][component] == "tcp-proxy"
    (container,) = template["spec"]["containers"]
    assert container["name"] == "sap-transp-proxy-tcp"
    (admin,) = container["ports"]
    for name, port in (
        ("sap-transp-proxy-int-healthcheck", 80),
        ("sap-transp-proxy-tcp-metrics", 9494),
    ):
        (of_service,) = only(objects, "Service", name)["spec"]["ports"]
        assert (of_service["port"], of_service["targetPort"]) == (port, admin["name"])


def test_names_of_services_are_reserved(objects):
    """No Destination gets the name of one of these Services, even if a suffix is added for another
    namespace."""
    source = (ROOT / "controller/plan.h").read_text()
    prefix = re.search(r'define PLAN_RESERVED_PREFIX "(.*)"', source).group(1)
    names = [item["metadata"]["name"] for item in objects if item["kind"] == "Service"]
    assert names and all(name.startswith(prefix) for name in names)


def test_admin_port_stays_reachable(objects, deployment):
    """The NetworkPolicy opens the admin port and no other; the program opens the others."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (admin,) = container["ports"]
    policy = only(objects, "NetworkPolicy")["spec"]
    ports = [{"protocol": "TCP", "port": admin["containerPort"]}]
    assert policy["policyTypes"] == ["Ingress"] and policy["ingress"] == [{"ports": ports}]
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == admin["name"]


def test_nothing_looks_like_made_by_the_program(objects):
    """The manifests must not have the program's label, because it removes objects that have it and
    belong to no Destination."""
    for item in objects:
        assert "app.kubernetes.io/managed-by" not in item["metadata"].get("labels", {})


def test_image_is_of_no_registry(deployment):
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert re.fullmatch(r"tproxy:[\w.-]+", container["image"])


def test_overlay_for_istio(installed, objects):
    """The installation is the same except for the pod's metadata."""
    template = only(rendered(installed, "overlays/istio"), "Deployment")["spec"]["template"]
    usual = only(objects, "Deployment")["spec"]["template"]
    switch = "sidecar.istio.io/inject"
    assert usual["metadata"]["labels"][switch] == "false"
    assert template["metadata"]["labels"] == {**usual["metadata"]["labels"], switch: "true"}
    assert template["spec"] == usual["spec"]
    names = [
        sorted((item["kind"], item["metadata"]["name"]) for item in each)
        for each in (objects, rendered(installed, "overlays/istio"))
    ]
    assert names[0] == names[1]


# --- what it may do ---


def test_rights_are_the_documented_ones(objects):
    """Each rule has a row in docs/install.md, each row has a rule, and no rule is a wildcard."""
    text = section("docs/install.md", "What it may do")
    for kind, start, end in (
        ("ClusterRole", "In all namespaces:", "In the home namespace:"),
        ("Role", "In the home namespace:", "### Secrets elsewhere"),
    ):
        rows = re.findall(
            r"^\| (`.*?) \| ([a-z, ]+) \|", text[text.index(start) : text.index(end)], re.MULTILINE
        )
        said = {(tuple(re.findall(r"`(.*?)`", names)), verbs) for names, verbs in rows}
        there = set()
        for rule in only(objects, kind)["rules"]:
            assert "*" not in json.dumps(rule)
            (resource,), groups = rule["resources"], rule["apiGroups"]
            more = rule.get("resourceNames", []) + [g for g in groups if resource == "events"]
            there.add(((resource, *more), ", ".join(rule["verbs"])))
        assert said == there


def may(kube: Kube, verb: str, what: str, namespace: str, name: str = "", user: str = USER) -> bool:
    """Returns whether the user may do this; `what` is "group/resource/subresource"."""
    group, resource, *sub = what.split("/")
    attributes = {"verb": verb, "group": group, "resource": resource, "namespace": namespace}
    attributes |= {"name": name, "subresource": "".join(sub)}
    review = {"spec": {"user": user, "resourceAttributes": attributes}}
    answer = kube.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return answer["status"]["allowed"]


@pytest.mark.parametrize(
    "verb, what, at_home, elsewhere",
    [
        ("watch", "destination.connectivity.api.sap/destinations", True, True),
        ("patch", "destination.connectivity.api.sap/destinations/status", True, True),
        ("patch", "destination.connectivity.api.sap/destinations", False, False),
        ("delete", "destination.connectivity.api.sap/destinations", False, False),
        ("watch", "operator.kyma-project.io/transparentproxies", True, False),
        ("patch", "operator.kyma-project.io/transparentproxies/status", True, False),
        ("create", "/services", True, True),
        ("create", "networking.k8s.io/networkpolicies", True, False),
        ("create", "events.k8s.io/events", True, True),
        ("list", "/secrets", True, False),
        ("watch", "services.cloud.sap.com/serviceinstances", True, False),
        ("watch", "services.cloud.sap.com/servicebindings", True, False),
        ("patch", "services.cloud.sap.com/servicebindings", False, False),
        ("create", "/secrets", False, False),
        ("list", "/configmaps", False, False),
        ("create", "/configmaps", True, False),
        ("patch", "/configmaps", False, False),
        ("delete", "/configmaps", False, False),
        ("create", "/pods", False, False),
        ("create", "/pods/exec", False, False),
    ],
)
def test_rights_hold(installed, verb, what, at_home, elsewhere):
    assert may(installed, verb, what, HOME) == at_home
    assert may(installed, verb, what, "default") == elsewhere


def test_rights_to_configmaps(installed):
    for name in ("connectivity-proxy", "connectivity-proxy-info"):
        assert may(installed, "watch", "/configmaps", "kyma-system", name)
    assert not may(installed, "watch", "/configmaps", "kyma-system", "another")
    for verb in ("list", "watch", "patch", "delete"):
        assert may(installed, verb, "/configmaps", HOME, "tproxy-last-configuration")
        assert not may(installed, verb, "/configmaps", "default", "tproxy-last-configuration")
        assert not may(installed, verb, "/configmaps", HOME, "another")


def test_rights_to_the_lease(installed):
    lease = "coordination.k8s.io/leases"
    for verb in ("get", "list", "watch", "patch", "delete"):
        assert may(installed, verb, lease, HOME, "tproxy")
        assert not may(installed, verb, lease, HOME, "another")
        assert not may(installed, verb, lease, "default", "tproxy")
    assert may(installed, "create", lease, HOME) and not may(installed, "create", lease, "default")


def test_overlay_for_secrets(installed):
    assert not may(installed, "list", "/secrets", "default")
    overlay = str(MANIFESTS / "overlays/secrets-cluster-wide")
    installed.kubectl("apply", "-k", overlay)
    try:
        assert may(installed, "list", "/secrets", "default")
        assert not may(installed, "create", "/secrets", "default")
    finally:
        installed.kubectl("delete", "-k", overlay)


# --- Destination ---


@pytest.mark.parametrize("cr", DESTINATIONS.values(), ids=DESTINATIONS)
def test_destination_is_accepted(installed, cr):
    """kubectl accepts the object, although it refuses fields that the schema does not know, and the
    API server stores it unchanged."""
    space = installed.namespace()
    done = installed.kubectl("apply", "-n", space, "-f", "-", input=json.dumps(cr))
    assert not done.stderr
    stored = installed.get(f"{CRS}/{space}/destinations/{cr['metadata']['name']}")
    expected = copy.deepcopy(cr["spec"])
    if "fragmentRef" in expected:
        expected["fragmentRef"].setdefault("optional", False)
    assert stored["spec"] == expected


def test_misprint_is_refused(installed):
    """The misprint is refused even if kubectl does not check the fields."""
    given = json.dumps(MISPRINT)
    for leniency in ("--validate=strict", "--validate=false"):
        done = installed.kubectl("apply", leniency, "-f", "-", input=given, check=False)
        assert done.returncode, leniency
    assert "spec: Required value" in done.stderr


@pytest.mark.parametrize(
    "spec, field",
    [
        ({"destinationRef": {}}, "spec.destinationRef.name"),
        ({"destinationRef": {"name": ""}}, "spec.destinationRef.name"),
        ({"destinationRef": {"name": "x", "level": "account"}}, "spec.destinationRef.level"),
        ({"fragmentRef": {"name": "x", "level": "account"}}, "spec.fragmentRef.level"),
        (
            {"fragmentRef": {"level": "instance"}},
            "fragmentRef.level can only be specified when fragmentRef.name is provided",
        ),
        ({"service": {"port": 0}}, "spec.service.port"),
        ({"service": {"port": 65536}}, "spec.service.port"),
        ({"accessControl": {"scope": "cluster"}}, "spec.accessControl.scope"),
        ({"destinationServiceInstanceName": 7}, "spec.destinationServiceInstanceName"),
    ],
    ids=str,
)
def test_bad_destination_is_refused(installed, spec, field):
    cr = mailbox("bad", **spec) if "destinationRef" not in spec else mailbox("bad")
    cr["spec"].update(spec)
    with pytest.raises(ApiError, match=re.escape(field)):
        installed.create(f"{CRS}/default/destinations", cr)


def test_unknown_fields_are_named(installed):
    """A misspelt field is reported."""
    cr = mailbox("slip", destinationServiceInstance="x")
    done = installed.kubectl("apply", "-f", "-", input=json.dumps(cr), check=False)
    assert done.returncode and "destinationServiceInstance" in done.stderr


def test_printer_columns(installed):
    space = installed.namespace()
    cr = mailbox(
        "mine",
        destinationServiceInstanceName="instance",
        service={"port": 1110},
        fragmentRef={"name": "fragment"},
        chainRef={"name": "chain"},
        accessControl={"scope": "clusterWide"},
    )
    path = f"{CRS}/{space}/destinations"
    installed.create(path, cr)
    conditions = [
        {"type": "Other", "status": "Unknown", "reason": "Older"},
        {"type": "Available", "status": "True", "reason": "ConfigurationSuccessful"},
    ]
    installed.patch(f"{path}/mine/status", {"status": {"conditions": conditions}})
    heading, line = installed.kubectl("get", "dst", "-n", space).stdout.splitlines()
    assert heading.split() == [
        "NAME",
        "AGE",
        "DESTINATIONREF",
        "FRAGMENTREF",
        "DESTINATIONSERVICEINSTANCENAME",
        "SERVICEPORT",
        "ACCESSCONTROLSCOPE",
        "CHAINREF",
        "STATUS",
    ]
    name, _, *rest = line.split()
    assert [name, *rest] == [
        "mine",
        "example-dest-pop3",
        "fragment",
        "instance",
        "1110",
        "clusterWide",
        "chain",
        "ConfigurationSuccessful",
    ]


def test_status_is_apart(installed):
    """A user who may write the status cannot change the spec, and vice versa."""
    space = installed.namespace()
    path = f"{CRS}/{space}/destinations"
    installed.create(path, mailbox("mine"))
    both = {
        "spec": {"destinationRef": {"name": "another"}},
        "status": {"tenants": [{"tenantSubdomain": "t"}]},
    }
    after = installed.patch(f"{path}/mine/status", both)
    assert after["spec"]["destinationRef"]["name"] == "example-dest-pop3"
    assert after["status"] == both["status"]
    after = installed.patch(f"{path}/mine", {"status": {"tenants": []}})
    assert after["status"] == both["status"]
    with pytest.raises(ApiError, match="status.conditions"):
        wrong = {"status": {"conditions": [{"type": "Available", "status": "true"}]}}
        installed.patch(f"{path}/mine/status", wrong)


# --- TransparentProxy ---


def without_nulls(value: object) -> object:
    """Returns the value without nulls, which the API server drops."""
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


@pytest.fixture
def configured(installed):
    """Returns a function that replaces the configuration and returns the stored one."""

    def configure(proxy: dict) -> dict:
        installed.kubectl("delete", "tp", "-n", HOME, "--all")
        done = installed.kubectl("create", "-f", "-", input=json.dumps(proxy))
        assert not done.stderr
        return installed.get(CONFIGURATION)

    return configure


@pytest.mark.parametrize("proxy", TRANSPARENT_PROXIES.values(), ids=TRANSPARENT_PROXIES)
def test_transparent_proxy_is_accepted(installed, configured, proxy):
    """The object is accepted when it is created or applied, and nothing of it is lost."""
    assert configured(proxy)["spec"] == without_nulls(proxy["spec"])
    done = installed.kubectl("apply", "-f", "-", input=json.dumps(proxy))
    assert "Error" not in done.stderr


def test_unknown_keys_are_kept_at_every_level(installed, configured):
    """Unknown keys are kept, because they may be those of a later version of SAP's or of the Helm
    chart."""

    def with_unknown(schema: dict) -> object:
        if schema["type"] == "array":
            return [with_unknown(schema["items"])]
        if schema["type"] != "object":
            return {"string": "x", "integer": 1, "boolean": True}[schema["type"]]
        known = {key: with_unknown(each) for key, each in schema.get("properties", {}).items()}
        return {**known, "unknown": {"key": [1]}}

    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    crd = installed.get(f"{definitions}/transparentproxies.operator.kyma-project.io")
    (version,) = crd["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    proxy = {**TRANSPARENT_PROXIES["Kyma"], "spec": with_unknown(schema)}
    assert configured(proxy)["spec"] == proxy["spec"]


@pytest.mark.parametrize(
    "config",
    [
        {"tenantMode": "nonsense", "managedNamespacesMode": ""},
        {"manager": {"executionIntervalMinutes": -1}},
        {"integration": {"destinationService": {"connectionTimeoutSeconds": 100000}}},
        {"logging": {"level": "LOUD"}},
        {"security": {"accessControl": {"destinations": {"defaultScope": "x"}}}},
    ],
    ids=str,
)
def test_values_are_judged_by_the_program(configured, config):
    proxy = {**TRANSPARENT_PROXIES["Kyma"], "spec": {"config": config}}
    assert configured(proxy)["spec"]["config"] == config


def test_json_patches_of_saps_script(installed, configured):
    configured(TRANSPARENT_PROXIES["BTP service operator"])
    place = "/spec/config/integration/destinationService/instances"
    one, two = ({"name": n, "serviceCredentials": {"secretName": n}} for n in ("one", "two"))
    for change in (
        {"op": "add", "path": f"{place}/-", "value": one},
        {"op": "replace", "path": f"{place}/0", "value": two},
    ):
        patch = ["patch", "tp", "transparent-proxy", "-n", HOME, "--type=json"]
        installed.kubectl(*patch, "-p", json.dumps([change]))
    stored = installed.get(CONFIGURATION)["spec"]["config"]["integration"]["destinationService"]
    assert stored["instances"] == [two, one]


def test_status_of_the_configuration(installed, configured):
    configured(TRANSPARENT_PROXIES["published"])
    condition = {
        "type": "SomeKeysIgnored",
        "status": "True",
        "reason": "NoEffect",
        "message": "deployment.resources",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {"state": "Warning", "conditions": [condition]}
    assert installed.patch(f"{CONFIGURATION}/status", {"status": status})["status"] == status
    heading, line = installed.kubectl("get", "tp", "-n", HOME).stdout.splitlines()
    assert heading.split()[:2] == ["NAME", "STATE"]
    assert line.split()[:2] == ["transparent-proxy", "Warning"]
    for wrong, field in (
        ({"state": "Fine"}, "status.state"),
        ({"conditions": [{**condition, "reason": "No-Effect"}]}, r"status.conditions\[0\].reason"),
    ):
        with pytest.raises(ApiError, match=field):
            installed.patch(f"{CONFIGURATION}/status", {"status": {**status, **wrong}})


def leaves(schema: dict, path: str = "") -> dict[str, str]:
    """Returns the descriptions of all keys that are neither objects nor arrays."""
    if schema["type"] == "array":
        return leaves(schema["items"], path + "[]")
    if not schema.get("properties"):
        return {path.removeprefix("."): schema.get("description", "")}
    found = {}
    for key, each in schema["properties"].items():
        found |= leaves(each, f"{path}.{key}")
    return found


def spec_of(objects: list[dict], crd: str) -> dict:
    (version,) = only(objects, "CustomResourceDefinition", crd)["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]["properties"]["spec"]


def test_documented_keys_are_those_of_the_schema(objects):
    """`kubectl explain` and docs/configuration.md agree, including the defaults."""
    spec = spec_of(objects, "transparentproxies.operator.kyma-project.io")
    described = leaves(spec["properties"].pop("config")) | leaves(spec)
    text = section("docs/configuration.md", "Keys that have an effect")
    rows = dict(re.findall(r"^\| `(.*?)` \| (.*?) \|", text, re.MULTILINE))
    assert rows.keys() == described.keys()
    for key, default in rows.items():
        if default not in ("none", "required", "the home namespace"):
            assert default.strip("`") in described[key], key


def undescribed(schema: dict, path: str) -> list[str]:
    """Returns the paths of all fields without a description. The API server describes the three
    that each object has."""
    found = [] if schema.get("description") else [path]
    for key, each in schema.get("properties", {}).items():
        if key not in ("apiVersion", "kind", "metadata"):
            found += undescribed(each, f"{path}.{key}")
    return found + (undescribed(schema["items"], path + "[]") if "items" in schema else [])


@pytest.mark.parametrize("kind", ["Destination", "TransparentProxy"])
def test_every_field_is_described(objects, kind):
    """`kubectl explain` says something about each field."""
    (crd,) = [
        each
        for each in objects
        if each["kind"] == "CustomResourceDefinition" and each["spec"]["names"]["kind"] == kind
    ]
    (version,) = crd["spec"]["versions"]
    assert not undescribed(version["schema"]["openAPIV3Schema"], kind)


def test_documented_fields_are_those_of_the_schema(objects):
    there = leaves(spec_of(objects, "destinations.destination.connectivity.api.sap"), "spec")
    text = section("docs/destinations.md", "A Destination resource")
    said = {name for name in re.findall(r"`(spec\.[\w.]+)`", text)}
    assert said == {re.sub(r"\[\].*", "", field) for field in there}


# --- samples ---


def test_samples_fit_together(installed):
    """The samples are accepted, and each names the next."""
    arguments = ["apply", "--dry-run=server", "-o", "json", "-f", str(MANIFESTS / "samples")]
    items = json.loads(installed.kubectl(*arguments).stdout)["items"]
    cr, secret, proxy = (
        only(items, kind) for kind in ("Destination", "Secret", "TransparentProxy")
    )
    (listed,) = proxy["spec"]["config"]["integration"]["destinationService"]["instances"]
    assert cr["spec"]["destinationServiceInstanceName"] == listed["name"]
    credentials = listed["serviceCredentials"]
    about = secret["metadata"]
    assert (about["name"], about["namespace"]) == (
        credentials["secretName"],
        credentials["secretNamespace"],
    )
    key = json.loads(base64.b64decode(secret["data"][credentials["secretKey"]]))
    assert all(re.fullmatch("<.+>", value) for value in key.values()), "placeholders"


# --- the document ---

# There are neither nodes nor controllers for which kubectl could wait.
STAND_IN = """
case $1 in
rollout) exec {kubectl} wait --for=condition=Established crd --all ;;
wait) shift; exec {kubectl} get "$1" "$2" "$4" ;;
delete) exec {kubectl} "$@" --wait=false ;;
logs) exec {kubectl} get "$2" "$3" "$4" ;;
*) exec {kubectl} "$@" ;;
esac
"""


def test_commands_of_the_document(make_kube, kube_programs, directory):
    """The commands of the document work one after another on an empty cluster."""
    kube = make_kube()
    shutil.copytree(MANIFESTS, directory / "manifests")
    (directory / "service-key.json").write_text("{}")
    kubectl = directory / "bin/kubectl"
    stand_in(directory, "bin/kubectl", STAND_IN.format(kubectl=kube_programs / "kubectl"))

    def run(commands: list[str]) -> None:
        done = subprocess.run(
            ["bash", "-euxc", "".join(commands)],
            cwd=directory,
            env={
                **os.environ,
                "HOME": str(directory),
                "KUBECONFIG": str(kube.directory / "kubeconfig"),
                "PATH": f"{kubectl.parent}:{os.environ['PATH']}",
            },
            capture_output=True,
            text=True,
            timeout=PATIENCE * 4,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    commands = blocks("docs/install.md", "sh")
    (more,) = blocks("docs/install.md", "yaml")
    commands.insert(1, f"cat >>install/kustomization.yaml <<'END'\n{more}END\n")
    commands = [text for text in commands if "build/tproxy" not in text]  # test_docs.py runs it
    run([text for text in commands if "kubectl delete" not in text])
    for namespace, name in ((HOME, "tproxy"), ("second", "tproxy-second")):
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
        template = kube.get(path)["spec"]["template"]
        if namespace == HOME:
            (container,) = template["spec"]["containers"]
            assert container["image"] == "registry.example.com/mail/tproxy:1.0"
            assert container["resources"]["limits"]["memory"] == "256Mi"
            assert template["metadata"]["labels"]["sidecar.istio.io/inject"] == "true"
        account = template["spec"]["serviceAccountName"]
        user = f"system:serviceaccount:{namespace}:{account}"
        assert may(kube, "list", "/secrets", namespace, user=user)

    run([text for text in commands if "kubectl delete" in text])
    ours = re.compile(r"tproxy|\.sap$|kyma")

    def left() -> set[str]:
        kinds = "clusterroles,clusterrolebindings,customresourcedefinitions"
        names = kube.kubectl("get", kinds, "-o", "name").stdout.split()
        return {name for name in names if ours.search(name)}

    group = "rbac.authorization.k8s.io"
    second = {f"{kind}.{group}/tproxy-second" for kind in ("clusterrole", "clusterrolebinding")}
    until(lambda: left() == second, "that the CRDs are gone", every=0.1)
    ending = kube.get(f"/api/v1/namespaces/{HOME}")
    assert "deletionTimestamp" in ending["metadata"]

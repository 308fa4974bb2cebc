"""Definitions of other projects' kinds, as far as drivers use them: with schemas, so that a wrong field is dropped.

Sources: the KubeVirt API (kubevirt.io/v1), CDI's (cdi.kubevirt.io/v1beta1), the Gateway API
(gateway.networking.k8s.io/v1), CloudNativePG's (postgresql.cnpg.io/v1) and mariadb-operator's
(k8s.mariadb.com/v1alpha1).
"""

from __future__ import annotations

from typing import Any

from chandlery.driver.objects import ResourceType
from chandlery.providers.kubernetes.types import (
    CERTIFICATES,
    CNPG_BACKUPS,
    CNPG_CLUSTERS,
    CNPG_POOLERS,
    CNPG_SCHEDULES,
    DATA_VOLUMES,
    GATEWAYS,
    HTTP_ROUTES,
    KUBEVIRT_INSTANCES,
    KUBEVIRT_MACHINES,
    MARIADBS,
    OBJECT_STORES,
    RABBITMQ_BINDINGS,
    RABBITMQ_CLUSTERS,
    RABBITMQ_EXCHANGES,
    RABBITMQ_PERMISSIONS,
    RABBITMQ_POLICIES,
    RABBITMQ_QUEUES,
    RABBITMQ_TOPIC_PERMISSIONS,
    RABBITMQ_USERS,
    RABBITMQ_VHOSTS,
    SERVICE_MONITORS,
    TCP_ROUTES,
    TLS_ROUTES,
)

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
FLAG: Schema = {"type": "boolean"}
EMPTY: Schema = {"type": "object"}
QUANTITY: Schema = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
LOOSE: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
WORDS: Schema = {"type": "object", "additionalProperties": TEXT}


def record(**fields: Schema) -> Schema:
    return {"type": "object", "properties": fields}


def each(item: Schema, *keys: str) -> Schema:
    keyed = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)} if keys else {}
    if keys:
        item = {**item, "required": list(keys)}
    return {"type": "array", "items": item, **keyed}


def definition(kind: ResourceType, spec: Schema, *, categories: tuple[str, ...] = ()) -> dict[str, Any]:
    """A CustomResourceDefinition with a status that may hold anything."""
    schema = {"type": "object", "properties": {"spec": spec, "status": LOOSE}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{kind.group}",
            "annotations": {"api-approved.kubernetes.io": "unapproved"},
        },
        "spec": {
            "group": kind.group,
            "scope": "Namespaced",
            "names": {
                "kind": kind.kind,
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "listKind": f"{kind.kind}List",
                **({"categories": list(categories)} if categories else {}),
            },
            "versions": [
                {
                    "name": kind.version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


_PROBE = record(
    guestAgentPing=EMPTY,
    tcpSocket=record(port=QUANTITY),
    periodSeconds=NUMBER,
    failureThreshold=NUMBER,
    timeoutSeconds=NUMBER,
)
_TARGET = record(bus=TEXT, readonly=FLAG)
_DOMAIN = record(
    cpu=record(sockets=NUMBER, cores=NUMBER, threads=NUMBER),
    memory=record(guest=QUANTITY),
    firmware=record(uuid=TEXT, bootloader=record(efi=record(secureBoot=FLAG))),
    features=record(smm=record(enabled=FLAG)),
    devices=record(
        disks=each(record(name=TEXT, disk=_TARGET, bootOrder=NUMBER, serial=TEXT)),
        interfaces=each(record(name=TEXT, masquerade=EMPTY, bridge=EMPTY, macAddress=TEXT)),
        rng=EMPTY,
    ),
)
_NAMED = record(name=TEXT)
_INSTANCE = record(
    architecture=TEXT,
    domain=_DOMAIN,
    networks=each(record(name=TEXT, pod=EMPTY, multus=record(networkName=TEXT))),
    volumes=each(
        record(
            name=TEXT,
            dataVolume=_NAMED,
            cloudInitNoCloud=record(secretRef=_NAMED, networkDataSecretRef=_NAMED),
        )
    ),
    terminationGracePeriodSeconds=NUMBER,
    hostname=TEXT,
    nodeSelector=WORDS,
    tolerations=each(LOOSE),
    topologySpreadConstraints=each(LOOSE),
    priorityClassName=TEXT,
    readinessProbe=_PROBE,
    accessCredentials=each(
        record(
            sshPublicKey=record(source=record(secret=record(secretName=TEXT)), propagationMethod=record(noCloud=EMPTY))
        )
    ),
)
KUBEVIRT = (
    definition(
        KUBEVIRT_MACHINES,
        record(runStrategy=TEXT, template=record(metadata=record(labels=WORDS), spec=_INSTANCE)),
    ),
    definition(KUBEVIRT_INSTANCES, _INSTANCE),
    definition(
        DATA_VOLUMES,
        record(
            source=record(http=record(url=TEXT, checksum=TEXT), blank=EMPTY),
            storage=record(
                resources=record(requests={"type": "object", "additionalProperties": QUANTITY}), storageClassName=TEXT
            ),
        ),
    ),
)

_PARENTS = each(record(group=TEXT, kind=TEXT, name=TEXT, sectionName=TEXT))
_BACKENDS = each(record(group=TEXT, kind=TEXT, name=TEXT, port=NUMBER, weight=NUMBER))
_MATCH_NAMED = record(type=TEXT, name=TEXT, value=TEXT)
_HEADERS = record(
    set=each(record(name=TEXT, value=TEXT), "name"),
    add=each(record(name=TEXT, value=TEXT), "name"),
    remove=each(TEXT),
)
_PATH = record(type=TEXT, replaceFullPath=TEXT, replacePrefixMatch=TEXT)
_FILTER = record(
    type=TEXT,
    requestHeaderModifier=_HEADERS,
    responseHeaderModifier=_HEADERS,
    requestRedirect=record(scheme=TEXT, hostname=TEXT, path=_PATH, port=NUMBER, statusCode=NUMBER),
    urlRewrite=record(hostname=TEXT, path=_PATH),
)
_RULE = record(
    name=TEXT,
    matches=each(
        record(
            path=record(type=TEXT, value=TEXT),
            headers=each(_MATCH_NAMED, "name"),
            queryParams=each(_MATCH_NAMED, "name"),
            method=TEXT,
        )
    ),
    filters=each(_FILTER),
    backendRefs=_BACKENDS,
    timeouts=record(request=TEXT, backendRequest=TEXT),
    sessionPersistence=record(type=TEXT, sessionName=TEXT),
)
_LISTENER = record(
    name=TEXT,
    hostname=TEXT,
    port=NUMBER,
    protocol=TEXT,
    tls=record(mode=TEXT, certificateRefs=each(record(group=TEXT, kind=TEXT, name=TEXT))),
    allowedRoutes=record(namespaces=record(**{"from": TEXT}), kinds=each(record(group=TEXT, kind=TEXT))),
)
GATEWAY_API = (
    definition(
        GATEWAYS,
        record(
            gatewayClassName=TEXT,
            listeners=each(_LISTENER, "name"),
            addresses=each(record(type=TEXT, value=TEXT)),
            infrastructure=record(labels=WORDS, annotations=WORDS),
        ),
    ),
    definition(HTTP_ROUTES, record(parentRefs=_PARENTS, hostnames=each(TEXT), rules=each(_RULE))),
    definition(
        TLS_ROUTES, record(parentRefs=_PARENTS, hostnames=each(TEXT), rules=each(record(backendRefs=_BACKENDS)))
    ),
    definition(TCP_ROUTES, record(parentRefs=_PARENTS, rules=each(record(backendRefs=_BACKENDS)))),
)


MONITORING = definition(
    SERVICE_MONITORS,
    record(
        selector=record(matchLabels=WORDS),
        namespaceSelector=record(matchNames=each(TEXT)),
        endpoints=each(record(port=TEXT, interval=TEXT, path=TEXT)),
    ),
)
CERT_MANAGER = definition(
    CERTIFICATES,
    record(
        secretName=TEXT,
        secretTemplate=record(labels=WORDS),
        dnsNames=each(TEXT),
        usages=each(TEXT),
        issuerRef=record(group=TEXT, kind=TEXT, name=TEXT),
    ),
)

_BEGINNING = record(database=TEXT, owner=TEXT, secret=_NAMED, encoding=TEXT, locale=TEXT, dataChecksums=FLAG)
CLOUDNATIVE_PG = (
    definition(
        CNPG_CLUSTERS,
        record(
            instances=NUMBER,
            imageName=TEXT,
            imagePullSecrets=each(_NAMED),
            storage=record(size=TEXT, storageClass=TEXT),
            bootstrap=record(
                initdb=_BEGINNING,
                recovery=record(
                    source=TEXT,
                    database=TEXT,
                    owner=TEXT,
                    secret=_NAMED,
                    recoveryTarget=record(targetTime=TEXT, backupID=TEXT),
                ),
            ),
            plugins=each(record(name=TEXT, isWALArchiver=FLAG, parameters=WORDS), "name"),
            externalClusters=each(record(name=TEXT, plugin=record(name=TEXT, parameters=WORDS)), "name"),
            enableSuperuserAccess=FLAG,
            superuserSecret=_NAMED,
            inheritedMetadata=record(labels=WORDS, annotations=WORDS),
            affinity=record(
                enablePodAntiAffinity=FLAG,
                topologyKey=TEXT,
                podAntiAffinityType=TEXT,
                nodeSelector=WORDS,
                tolerations=each(LOOSE),
            ),
            priorityClassName=TEXT,
            resources=LOOSE,
            failoverDelay=NUMBER,
            certificates=record(serverTLSSecret=TEXT, serverCASecret=TEXT),
            postgresql=record(
                parameters=WORDS,
                pg_hba=each(TEXT),
                shared_preload_libraries=each(TEXT),
                synchronous=record(method=TEXT, number=NUMBER, dataDurability=TEXT),
            ),
        ),
    ),
    definition(
        CNPG_POOLERS,
        record(
            cluster=_NAMED,
            type=TEXT,
            instances=NUMBER,
            pgbouncer=record(poolMode=TEXT, parameters=WORDS),
            template=record(metadata=record(labels=WORDS), spec=LOOSE),
        ),
    ),
)

_COPIED = {"cluster": _NAMED, "method": TEXT, "pluginConfiguration": record(name=TEXT, parameters=WORDS)}
_KEY = record(name=TEXT, key=TEXT)
BARMAN_CLOUD = (
    definition(CNPG_BACKUPS, record(**_COPIED)),
    definition(CNPG_SCHEDULES, record(**_COPIED, schedule=TEXT, suspend=FLAG, backupOwnerReference=TEXT)),
    definition(
        OBJECT_STORES,
        record(
            configuration=record(
                destinationPath=TEXT,
                endpointURL=TEXT,
                s3Credentials=record(accessKeyId=_KEY, secretAccessKey=_KEY, inheritFromIAMRole=FLAG),
                wal=record(compression=TEXT),
            ),
            instanceSidecarConfiguration=record(env=each(record(name=TEXT, value=TEXT), "name")),
            retentionPolicy=TEXT,
        ),
    ),
)

MARIADB_OPERATOR = definition(
    MARIADBS,
    record(
        replicas=NUMBER,
        image=TEXT,
        imagePullSecrets=each(_NAMED),
        rootPasswordSecretKeyRef=record(name=TEXT, key=TEXT, generate=FLAG),
        storage=record(
            size=TEXT,
            storageClassName=TEXT,
            resizeInUseVolumes=FLAG,
            pvcRetentionPolicy=record(whenDeleted=TEXT, whenScaled=TEXT),
        ),
        replication=record(
            enabled=FLAG,
            primary=record(autoFailover=FLAG, autoFailoverDelay=TEXT),
            semiSyncEnabled=FLAG,
            semiSyncWaitPoint=TEXT,
            semiSyncAckTimeout=TEXT,
        ),
        myCnf=TEXT,
        inheritMetadata=record(labels=WORDS, annotations=WORDS),
        affinity=record(antiAffinityEnabled=FLAG),
        tls=record(enabled=FLAG, required=FLAG),
        primaryService=record(
            type=TEXT, metadata=record(annotations=WORDS, labels=WORDS), loadBalancerSourceRanges=each(TEXT)
        ),
        priorityClassName=TEXT,
        nodeSelector=WORDS,
        tolerations=each(LOOSE),
        resources=LOOSE,
    ),
)

_OF = record(name=TEXT, namespace=TEXT)
_RIGHTS = dict.fromkeys(("configure", "write", "read", "exchange"), TEXT)
_RABBIT_CLUSTER = record(
    replicas=NUMBER,
    image=TEXT,
    imagePullSecrets=each(_NAMED),
    persistence=record(storage=QUANTITY, storageClassName=TEXT),
    resources=record(
        requests={"type": "object", "additionalProperties": QUANTITY},
        limits={"type": "object", "additionalProperties": QUANTITY},
    ),
    service=record(type=TEXT, annotations=WORDS),
    tls=record(secretName=TEXT, caSecretName=TEXT, disableNonTLSListeners=FLAG),
    affinity=LOOSE,
    tolerations=each(LOOSE),
    rabbitmq=record(additionalConfig=TEXT, advancedConfig=TEXT, additionalPlugins=each(TEXT)),
)
RABBITMQ = (
    definition(RABBITMQ_CLUSTERS, _RABBIT_CLUSTER),
    definition(RABBITMQ_VHOSTS, record(name=TEXT, rabbitmqClusterReference=_OF)),
    definition(
        RABBITMQ_QUEUES,
        record(
            name=TEXT,
            vhost=TEXT,
            type=TEXT,
            durable=FLAG,
            autoDelete=FLAG,
            arguments=LOOSE,
            rabbitmqClusterReference=_OF,
        ),
    ),
    definition(
        RABBITMQ_EXCHANGES,
        record(
            name=TEXT,
            vhost=TEXT,
            type=TEXT,
            durable=FLAG,
            autoDelete=FLAG,
            arguments=LOOSE,
            rabbitmqClusterReference=_OF,
        ),
    ),
    definition(
        RABBITMQ_BINDINGS,
        record(
            vhost=TEXT,
            source=TEXT,
            destination=TEXT,
            destinationType=TEXT,
            routingKey=TEXT,
            arguments=LOOSE,
            rabbitmqClusterReference=_OF,
        ),
    ),
    definition(RABBITMQ_USERS, record(tags=each(TEXT), importCredentialsSecret=_NAMED, rabbitmqClusterReference=_OF)),
    definition(
        RABBITMQ_PERMISSIONS,
        record(vhost=TEXT, user=TEXT, permissions=record(**_RIGHTS), rabbitmqClusterReference=_OF),
    ),
    definition(
        RABBITMQ_TOPIC_PERMISSIONS,
        record(vhost=TEXT, user=TEXT, permissions=record(**_RIGHTS), rabbitmqClusterReference=_OF),
    ),
    definition(
        RABBITMQ_POLICIES,
        record(
            name=TEXT,
            vhost=TEXT,
            pattern=TEXT,
            applyTo=TEXT,
            priority=NUMBER,
            definition=LOOSE,
            rabbitmqClusterReference=_OF,
        ),
    ),
)
"""Of RabbitMQ's cluster operator and messaging topology operator (rabbitmq.com/v1beta1)."""

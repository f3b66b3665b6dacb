//! Definitions in RabbitMQ's JSON: what a broker has besides messages, to be moved to another one.
//!
//! The records of the directory have that shape already ([`crate::engine::directory`]); here are queues, exchanges and
//! bindings, vhosts with their metadata, and the two things that RabbitMQ keeps as parameters: operator policies and the
//! limits of vhosts.
//!
//! [`Definitions`] reads the definitions of a whole cluster, and those of a single vhost, in which nothing names the
//! vhost. Taking them in and collecting them is `server/operator`'s.

mod arguments;
mod files;
mod records;

pub(crate) use arguments::{from_json, to_json};
pub(crate) use files::{DefinitionsError, read};
pub(crate) use records::{BindingDefinition, ExchangeDefinition, QueueDefinition, VhostDefinition};

use serde::{Deserialize, Serialize};

use crate::engine::directory::{
    GlobalParameterRecord, ParameterRecord, PermissionRecord, PolicyRecord, TopicPermissionRecord, User, VhostRecord,
};
use records::{ScopedParameter, ScopedPolicy};

/// What a file of definitions holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Definitions {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rabbit_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rabbitmq_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) product_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) product_version: Option<String>,
    #[serde(default, deserialize_with = "records::users")]
    pub(crate) users: Vec<User>,
    #[serde(default)]
    pub(crate) vhosts: Vec<VhostDefinition>,
    #[serde(default)]
    pub(crate) permissions: Vec<PermissionRecord>,
    #[serde(default)]
    pub(crate) topic_permissions: Vec<TopicPermissionRecord>,
    #[serde(default)]
    pub(crate) parameters: Vec<ScopedParameter>,
    #[serde(default)]
    pub(crate) global_parameters: Vec<GlobalParameterRecord>,
    #[serde(default)]
    pub(crate) policies: Vec<ScopedPolicy>,
    #[serde(default)]
    pub(crate) queues: Vec<QueueDefinition>,
    #[serde(default)]
    pub(crate) exchanges: Vec<ExchangeDefinition>,
    #[serde(default)]
    pub(crate) bindings: Vec<BindingDefinition>,
}

/// What a parameter stands for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Parameter {
    OperatorPolicy(PolicyRecord),
    /// The limits of a vhost.
    Limits {
        vhost: String,
        limits: std::collections::BTreeMap<String, i64>,
    },
    Plain(ParameterRecord),
}

impl Definitions {
    /// Reads a file's content.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, DefinitionsError> {
        let wrong = |cause: serde_json::Error| DefinitionsError::new(cause.to_string());
        // An object, and nothing else that could be taken for one.
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(text).map_err(wrong)?;
        serde_json::from_value(object.into()).map_err(wrong)
    }

    /// Adds parameters, operator policies and the limits of vhosts, all of which are parameters to RabbitMQ.
    pub(crate) fn set_parameters<'a>(
        &mut self,
        plain: impl Iterator<Item = &'a ParameterRecord>,
        operator_policies: impl Iterator<Item = &'a PolicyRecord>,
        vhosts: impl Iterator<Item = &'a VhostRecord>,
    ) {
        self.parameters.extend(plain.map(ScopedParameter::of));
        self.parameters.extend(operator_policies.map(ScopedParameter::of_policy));
        self.parameters.extend(vhosts.filter(|vhost| !vhost.limits.is_empty()).map(ScopedParameter::of_limits));
    }

    /// Adds policies.
    pub(crate) fn set_policies<'a>(&mut self, policies: impl Iterator<Item = &'a PolicyRecord>) {
        self.policies.extend(policies.map(ScopedPolicy::of));
    }

    /// The policies, of `vhost` where they name none.
    pub(crate) fn policies(&self, vhost: &str) -> Vec<PolicyRecord> {
        self.policies.iter().map(|policy| policy.clone().scoped(vhost)).collect()
    }

    /// The parameters and what they stand for, of `vhost` where they name none.
    pub(crate) fn parameters(&self, vhost: &str) -> Result<Vec<Parameter>, DefinitionsError> {
        self.parameters.iter().map(|parameter| parameter.clone().meaning(vhost)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by `rabbitmqctl export_definitions` of RabbitMQ 3.10.8, shortened.
    const EXPORTED: &str = r#"{
        "bindings":[{"arguments":{"k":1,"x-match":"all"},"destination":"q","destination_type":"queue","routing_key":"",
            "source":"amq.headers","vhost":"/"}],
        "exchanges":[{"arguments":{"alternate-exchange":"amq.fanout"},"auto_delete":false,"durable":true,"name":"x",
            "type":"topic","vhost":"/"}],
        "global_parameters":[{"name":"cluster_name","value":"golden@localhost"}],
        "parameters":[
            {"component":"operator_policy","name":"op","value":{"apply-to":"all","definition":{"max-length":10},
                "pattern":"^x","priority":0},"vhost":"/"},
            {"component":"vhost-limits","name":"limits","value":{"max-queues":3},"vhost":"/"},
            {"component":"federation-upstream","name":"up","value":{"uri":"amqp://there"},"vhost":"/"}],
        "permissions":[{"configure":".*","read":".*","user":"guest","vhost":"/","write":".*"}],
        "policies":[{"apply-to":"queues","definition":{"message-ttl":10},"name":"pol","pattern":"^y","priority":3,
            "vhost":"/"}],
        "queues":[{"arguments":{"x-max-length":100},"auto_delete":false,"durable":true,"name":"q","type":"classic",
            "vhost":"/"}],
        "rabbit_version":"3.10.8","rabbitmq_version":"3.10.8","topic_permissions":[],
        "users":[{"hashing_algorithm":"rabbit_password_hashing_sha256","limits":[],"name":"guest",
            "password_hash":"6K9PTufV1ll1KqYEtkt5IxQrU42irwOAJS3d3BV/89CSLeAL","tags":["administrator"]}],
        "vhosts":[{"limits":[],"metadata":{"description":"Default virtual host","tags":[]},"name":"/"}]}"#;

    #[test]
    fn an_export_of_rabbitmq_is_understood() {
        let read: Definitions = serde_json::from_str(EXPORTED).expect("understood");
        assert_eq!(read.users[0].tags, ["administrator"]);
        assert_eq!(read.vhosts[0].clone().into_record().description, "Default virtual host");
        assert_eq!(read.policies("v")[0].vhost, "/");
        let parameters = read.parameters("v").expect("understood");
        assert!(matches!(&parameters[0], Parameter::OperatorPolicy(policy) if policy.pattern == "^x"));
        assert!(matches!(&parameters[1], Parameter::Limits { limits, .. } if limits["max-queues"] == 3));
        assert!(matches!(&parameters[2], Parameter::Plain(record) if record.component == "federation-upstream"));
        let written = serde_json::to_string(&read).expect("written");
        assert_eq!(serde_json::from_str::<Definitions>(&written).expect("understood"), read);
    }

    #[test]
    fn definitions_of_one_vhost_name_none() {
        let text = r#"{"rabbit_version":"4.2.0","queues":[{"name":"q","durable":true,"auto_delete":false,"arguments":{}}],
            "policies":[{"name":"p","pattern":"","definition":{"max-length":1}}],
            "parameters":[{"component":"c","name":"n","value":1}]}"#;
        let read: Definitions = serde_json::from_str(text).expect("understood");
        assert_eq!(read.queues[0].vhost, None);
        assert_eq!((read.policies("v")[0].vhost.as_str(), read.policies("v")[0].apply_to.as_str()), ("v", "all"));
        let parameters = read.parameters("v").expect("understood");
        assert!(matches!(&parameters[0], Parameter::Plain(record) if record.vhost == "v"));
    }
}

//! Finds a disk image in a registry (OCI distribution specification 1.1): the manifest by its digest, in it the one layer
//! that is the image. Nobody's password is needed or sent: what a registry gives to everybody is taken.
//!
//! A registry is asked over https; on loopback also over http, as other tools do.

use super::Failure;
use super::digest::{Hasher, is_digest};
use super::upstream::{Source, chain};
use crate::refusal::Reason;
use reqwest::header::{ACCEPT, AUTHORIZATION, WWW_AUTHENTICATE};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use std::collections::HashMap;

/// Largest manifest, bytes (the specification's own limit).
const MANIFEST: u64 = 4 << 20;
const MEDIA_TYPES: &str =
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
const TITLE: &str = "org.opencontainers.image.title";

/// `oci://REGISTRY/REPOSITORY@DIGEST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    registry: String,
    repository: String,
    digest: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
    #[serde(default)]
    manifests: Vec<serde::de::IgnoredAny>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Token {
    #[serde(alias = "access_token")]
    token: String,
}

impl Reference {
    /// Reads a URL of an OSImage; `None` when it is of another kind.
    pub fn parse(url: &str) -> Option<Result<Reference, Failure>> {
        let rest = url.strip_prefix("oci://")?;
        let parts = rest.split_once('/').and_then(|(registry, rest)| Some((registry, rest.rsplit_once('@')?)));
        Some(match parts {
            Some((registry, (repository, digest))) if is_repository(repository) && is_digest(digest) => {
                Ok(Reference { registry: registry.into(), repository: repository.into(), digest: digest.into() })
            }
            _ => Err(Failure::unreadable(format!("{url} is not oci://REGISTRY/REPOSITORY@sha256:DIGEST"))),
        })
    }

    /// The layer that is the image: the one with the digest `wanted`, or when that is the manifest's, the only one that
    /// looks like a disk.
    pub async fn locate(&self, client: &Client, wanted: &str) -> Result<Source, Failure> {
        let path = format!("manifests/{}", self.digest);
        let (response, authorization) = self.get(client, &path).await?;
        let manifest = self.read(response).await?;
        let layer = pick(&manifest, &self.digest, wanted).map_err(|(reason, why)| self.failure(reason, why))?;
        let url = self.url(&format!("blobs/{}", layer.digest))?;
        Ok(Source { url, authorization, digest: layer.digest.clone(), length: Some(layer.size) })
    }

    /// GET, a second time with a token when the registry wants one. Gives the header that did it.
    async fn get(&self, client: &Client, path: &str) -> Result<(Response, Option<String>), Failure> {
        let url = self.url(path)?;
        let ask = |authorization: Option<&str>| {
            let request = client.get(url.clone()).header(ACCEPT, MEDIA_TYPES);
            authorization.map_or(request.try_clone(), |token| Some(request.header(AUTHORIZATION, token)))
        };
        let send = async |authorization: Option<&str>| match ask(authorization) {
            Some(request) => request.send().await.map_err(|why| self.unavailable(chain(&why))),
            None => Err(self.unavailable("no request".into())),
        };
        let response = send(None).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok((response, None));
        }
        let challenge = response.headers().get(WWW_AUTHENTICATE).and_then(|text| text.to_str().ok());
        let Some(token_url) = challenge.and_then(token_url) else {
            return Err(self.unavailable("it wants a password, and there is none".into()));
        };
        let token = client.get(token_url).send().await.map_err(|why| self.unavailable(chain(&why)))?;
        let token: Token = token
            .error_for_status()
            .map_err(|why| self.unavailable(chain(&why)))?
            .json()
            .await
            .map_err(|why| self.unavailable(chain(&why)))?;
        let header = format!("Bearer {}", token.token);
        Ok((send(Some(&header)).await?, Some(header)))
    }

    async fn read(&self, response: Response) -> Result<Manifest, Failure> {
        if !response.status().is_success() {
            return Err(self.unavailable(format!("it answered {}", response.status())));
        }
        if response.content_length().is_some_and(|length| length > MANIFEST) {
            return Err(self.failure(Reason::ImageUnreadable, "the manifest is too large".into()));
        }
        let mut body = Vec::new();
        let mut response = response;
        while let Some(chunk) = response.chunk().await.map_err(|why| self.unavailable(chain(&why)))? {
            body.extend_from_slice(&chunk);
            if body.len() as u64 > MANIFEST {
                return Err(self.failure(Reason::ImageUnreadable, "the manifest is too large".into()));
            }
        }
        let hasher = Hasher::like(&self.digest);
        let found = hasher.map(|mut hasher| {
            hasher.update(&body);
            hasher.finish()
        });
        if found.as_deref() != Some(self.digest.as_str()) {
            let why = format!("the manifest has the digest {}", found.unwrap_or_default());
            return Err(self.failure(Reason::ImageDigestMismatch, why));
        }
        let unreadable = |_| self.failure(Reason::ImageUnreadable, "the manifest is none".into());
        serde_json::from_slice(&body).map_err(unreadable)
    }

    fn url(&self, path: &str) -> Result<Url, Failure> {
        let loopback = ["127.", "localhost", "[::1]"].iter().any(|name| self.registry.starts_with(name));
        let scheme = if loopback { "http" } else { "https" };
        let url = format!("{scheme}://{}/v2/{}/{path}", self.registry, self.repository);
        Url::parse(&url).map_err(|why| self.failure(Reason::ImageUnreadable, why.to_string()))
    }

    fn unavailable(&self, why: String) -> Failure {
        self.failure(Reason::ImageUnavailable, why)
    }

    fn failure(&self, reason: Reason, why: String) -> Failure {
        let Reference { registry, repository, digest } = self;
        Failure::new(reason, format!("{registry}/{repository}@{digest}: {why}"))
    }
}

/// Lower-case parts with single slashes: it becomes a path.
fn is_repository(text: &str) -> bool {
    let part = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        part.bytes().all(inner) && part.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
    };
    text.len() <= 255 && text.split('/').all(part)
}

fn pick<'a>(manifest: &'a Manifest, own: &str, wanted: &str) -> Result<&'a Layer, (Reason, String)> {
    if !manifest.manifests.is_empty() {
        let why = "it is an index of several; name the manifest of one";
        return Err((Reason::ImageUnreadable, why.into()));
    }
    let layer = if wanted == own {
        let mut disks: Vec<_> = manifest.layers.iter().filter(|layer| layer.is_disk()).collect();
        if let ([], [only]) = (disks.as_slice(), manifest.layers.as_slice()) {
            disks.push(only);
        }
        match disks.as_slice() {
            [one] => *one,
            found => {
                let why = format!(
                    "{} of its {} layers look like a disk image; give the digest of the right one as disk.digest",
                    found.len(),
                    manifest.layers.len()
                );
                return Err((Reason::ImageUnreadable, why));
            }
        }
    } else {
        let found = manifest.layers.iter().find(|layer| layer.digest == wanted);
        found.ok_or_else(|| (Reason::ImageDigestMismatch, format!("it has no layer with the digest {wanted}")))?
    };
    match is_digest(&layer.digest) {
        true => Ok(layer),
        false => Err((Reason::ImageUnreadable, "a layer's digest is none".into())),
    }
}

impl Layer {
    /// By its media type or the name of the file that it was.
    fn is_disk(&self) -> bool {
        let title = self.annotations.get(TITLE).map(String::as_str).unwrap_or_default();
        let by_type = ["qcow2", "disk", "raw"].iter().any(|word| self.media_type.contains(word));
        let endings = [".raw", ".img", ".qcow2", ".raw.gz", ".raw.zst", ".raw.xz", ".img.gz", ".img.zst", ".img.xz"];
        by_type || endings.iter().any(|ending| title.ends_with(ending))
    }
}

/// Where to get a token, from `Bearer realm="…",service="…",scope="…"`.
fn token_url(challenge: &str) -> Option<Url> {
    let parameters = challenge.strip_prefix("Bearer ")?;
    let value = |name: &str| {
        let (_, rest) = parameters.split_once(&format!("{name}=\""))?;
        rest.split_once('"').map(|(value, _)| value.to_string())
    };
    let mut url = Url::parse(&value("realm")?).ok()?;
    for name in ["service", "scope"] {
        if let Some(value) = value(name) {
            url.query_pairs_mut().append_pair(name, &value);
        }
    }
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn digest(digit: char) -> String {
        format!("sha256:{}", digit.to_string().repeat(64))
    }

    #[test]
    fn only_a_whole_reference_is_one() {
        let text = format!("oci://registry.example:5000/team/debian-13@{}", digest('a'));
        let Some(Ok(reference)) = Reference::parse(&text) else { panic!("not read") };
        assert_eq!(
            (reference.registry.as_str(), reference.repository.as_str()),
            ("registry.example:5000", "team/debian-13")
        );
        assert!(Reference::parse("https://images/disk.raw").is_none());
        for text in ["oci://", "oci://r", "oci://r/x", "oci://r/x:latest", "oci://r/x@sha256:00", "oci://r/../x@"] {
            assert!(matches!(Reference::parse(text), Some(Err(_))), "{text}");
        }
        let sly = format!("oci://r/../../x@{}", digest('a'));
        assert!(matches!(Reference::parse(&sly), Some(Err(_))));
    }

    #[test]
    fn the_one_layer_that_is_a_disk_is_picked_and_else_none() {
        let layer = |digit, media_type: &str, title: &str| json!({ "digest": digest(digit), "size": 1, "mediaType": media_type, "annotations": { TITLE: title } });
        let other = layer('1', "text/plain", "README.md");
        let disk = layer('2', "application/octet-stream", "debian.qcow2");
        let typed = layer('3', "application/vnd.example.disk.qcow2", "");
        let own = digest('f');
        for (layers, wanted, picked) in [
            (vec![&other, &disk], &own, Ok('2')),
            (vec![&typed, &other], &own, Ok('3')),
            (vec![&other], &own, Ok('1')),
            (vec![&disk, &typed], &own, Err(Reason::ImageUnreadable)),
            (vec![&other, &other], &own, Err(Reason::ImageUnreadable)),
            (vec![], &own, Err(Reason::ImageUnreadable)),
            (vec![&disk, &typed], &digest('3'), Ok('3')),
            (vec![&disk, &typed], &digest('4'), Err(Reason::ImageDigestMismatch)),
        ] {
            let manifest: Manifest = serde_json::from_value(json!({ "layers": layers })).expect("a manifest");
            let found = pick(&manifest, &own, wanted).map(|layer| layer.digest.clone()).map_err(|(reason, _)| reason);
            assert_eq!(found, picked.map(digest));
        }
        let index: Manifest = serde_json::from_value(json!({ "manifests": [{}] })).expect("an index");
        assert!(pick(&index, &own, &own).is_err());
    }

    #[test]
    fn a_challenge_says_where_the_token_is() {
        let url = token_url(r#"Bearer realm="https://auth/token",service="registry",scope="repository:x:pull""#);
        let expected = "https://auth/token?service=registry&scope=repository%3Ax%3Apull";
        assert_eq!(url.map(|url| url.to_string()).as_deref(), Some(expected));
        assert_eq!(token_url(r#"Basic realm="x""#), None);
    }
}

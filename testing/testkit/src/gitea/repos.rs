//! Accounts, repositories and their files.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use super::{Account, Api, Commit, File, Repo, Result, Visibility};

impl Api {
    /// Makes a user who can log in, with a token for everything that a user may do.
    ///
    /// # Errors
    /// When the server refuses it: the name is taken.
    pub async fn create_user(&self, name: &str) -> Result<Account> {
        #[derive(Deserialize)]
        struct Token {
            sha1: SecretString,
        }
        let password = format!("{name}-of-a-test");
        let body = json!({
            "username": name,
            "email": format!("{name}@example.invalid"),
            "password": password,
            "must_change_password": false,
        });
        self.call(Method::POST, "admin/users", Some(&body)).await?;
        let wanted = json!({ "name": "tests", "scopes": ["all"] });
        let token = self.call_as((name, &password), &format!("users/{name}/tokens"), &wanted).await?;
        let Token { sha1: token } = token.parse()?;
        Ok(Account { name: name.to_owned(), password: password.into(), token })
    }

    /// Makes an organisation of this account.
    ///
    /// # Errors
    /// When the server refuses it: the name is taken.
    pub async fn create_org(&self, name: &str) -> Result<()> {
        self.call(Method::POST, "orgs", Some(&json!({ "username": name }))).await.map(drop)
    }

    /// Makes a repository of this account, with a first commit on `main`.
    ///
    /// # Errors
    /// When the server refuses it: the name is taken.
    pub async fn create_repo(&self, name: &str, visibility: Visibility) -> Result<Repo> {
        self.create_repo_at("user/repos", self.user(), name, visibility).await
    }

    /// The same in an organisation.
    ///
    /// # Errors
    /// When the server refuses it: the name is taken, there is no such organisation.
    pub async fn create_repo_in(&self, org: &str, name: &str, visibility: Visibility) -> Result<Repo> {
        self.create_repo_at(&format!("orgs/{org}/repos"), org, name, visibility).await
    }

    async fn create_repo_at(
        &self,
        path: &str,
        owner: &str,
        name: &str,
        visibility: Visibility,
    ) -> Result<Repo> {
        let body = json!({
            "name": name,
            "private": visibility == Visibility::Private,
            "auto_init": true,
            "default_branch": "main",
        });
        self.call(Method::POST, path, Some(&body)).await?;
        Ok(Repo { owner: owner.to_owned(), name: name.to_owned() })
    }

    /// Makes one commit on `main` of these files, new or changed.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn commit(&self, repo: &Repo, message: &str, files: &[File<'_>]) -> Result<Commit> {
        self.commit_on(repo, "main", message, files).await
    }

    /// The same on another branch that exists.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn commit_on(
        &self,
        repo: &Repo,
        branch: &str,
        message: &str,
        files: &[File<'_>],
    ) -> Result<Commit> {
        #[derive(Deserialize)]
        struct Made {
            commit: Commit,
        }
        let file = |file: &File<'_>| json!({ "operation": "upload", "path": file.path, "content": STANDARD.encode(file.content) });
        let files: Vec<_> = files.iter().map(file).collect();
        let body = json!({ "branch": branch, "message": message, "files": files });
        let made: Made = self.post(&format!("repos/{repo}/contents"), &body).await?;
        Ok(made.commit)
    }

    /// Makes a branch from the head of another.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn create_branch(&self, repo: &Repo, name: &str, from: &str) -> Result<()> {
        let body = json!({ "new_branch_name": name, "old_ref_name": from });
        self.call(Method::POST, &format!("repos/{repo}/branches"), Some(&body)).await.map(drop)
    }

    /// Asks for a branch to be merged into another, within the repository.
    ///
    /// # Errors
    /// When the server refuses it: there is nothing to merge.
    pub async fn create_pull(&self, repo: &Repo, head: &str, base: &str) -> Result<()> {
        let body = json!({ "head": head, "base": base, "title": format!("merge {head}") });
        self.call(Method::POST, &format!("repos/{repo}/pulls"), Some(&body)).await.map(drop)
    }

    /// The content of a file on `main`.
    ///
    /// # Errors
    /// When it is not there, or not visible to this account.
    pub async fn read_file(&self, repo: &Repo, path: &str) -> Result<Vec<u8>> {
        Ok(self.call(Method::GET, &format!("repos/{repo}/raw/{path}?ref=main"), None).await?.body)
    }

    /// Removes a repository with its runs and logs.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn delete_repo(&self, repo: &Repo) -> Result<()> {
        self.call(Method::DELETE, &format!("repos/{repo}"), None).await.map(drop)
    }
}

//! Single statements. Each has a transaction of its own: a pooler may give what follows outside of one to another session, and a
//! statement comes in several parts.

use std::time::Duration;

use outflow_model::port::{PortError, Result, Trouble};
use sqlx::FromRow;
use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::query::{Query, QueryAs};

use super::{PostgresLedger, doing};

/// A server that has not answered by then is gone: nothing else tells of a machine that has vanished.
const ANSWER: Duration = Duration::from_mins(1);

async fn answered<T>(context: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(ANSWER, work).await.unwrap_or_else(|_| {
        crate::count_trouble("postgresql");
        Err(PortError::new(Trouble::Unavailable, format!("{context}: PostgreSQL does not answer")))
    })
}

impl PostgresLedger {
    /// Does `statement`; how many rows it has touched.
    pub(super) async fn execute(
        &self,
        context: &'static str,
        statement: Query<'_, Postgres, PgArguments>,
    ) -> Result<u64> {
        let work = async {
            let mut transaction = self.transaction(context).await?;
            let done = statement.execute(&mut *transaction).await.map_err(doing(context))?;
            transaction.commit().await.map_err(doing(context))?;
            Ok(done.rows_affected())
        };
        answered(context, work).await
    }

    /// The rows that `statement` returns.
    pub(super) async fn rows<O>(
        &self,
        context: &'static str,
        statement: QueryAs<'_, Postgres, O, PgArguments>,
    ) -> Result<Vec<O>>
    where
        O: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let work = async {
            let mut transaction = self.transaction(context).await?;
            let rows = statement.fetch_all(&mut *transaction).await.map_err(doing(context))?;
            transaction.commit().await.map_err(doing(context))?;
            Ok(rows)
        };
        answered(context, work).await
    }

    /// The one row that `statement` returns, if it returns any.
    pub(super) async fn row<O>(
        &self,
        context: &'static str,
        statement: QueryAs<'_, Postgres, O, PgArguments>,
    ) -> Result<Option<O>>
    where
        O: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        Ok(self.rows(context, statement).await?.pop())
    }
}

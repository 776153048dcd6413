//! Which offsets a replay covers: its bounds, resolved once, when it begins.

use lakefall_queue::error::{Error, Result};
use lakefall_queue::replay::{ReplayEnd, ReplaySource, ReplayStart};
use lakefall_queue::topic::Topic;
use lakefall_queue::verbs::{Caller, Position, Start, Verbs};
use lakefall_queue::{Offset, PartitionIndex};

use super::place::Place;

/// Puts a replay at its beginning.
///
/// Bounds that are not there are refused, not moved to where there is something: what was asked for could not be copied.
pub(super) async fn resolve(verbs: &dyn Verbs, caller: &Caller, from: &ReplaySource, source: &Topic, place: &mut Place) -> Result<()> {
    let by_offset = [("start", matches!(from.start, ReplayStart::Offset(_))), ("end", matches!(from.end, ReplayEnd::Offset(_)))];
    if let Some((field, _)) = by_offset.into_iter().find(|(_, named)| *named)
        && from.partition.is_none()
        && source.config.partitions > 1
    {
        let reason = format!("topic {} has {} partitions: an offset needs `partition`", source.name, source.config.partitions);
        return Err(Error::invalid(format!("/from/{field}"), reason));
    }
    if let (ReplayStart::Timestamp(start), ReplayEnd::Timestamp(end)) = (from.start, from.end)
        && start > end
    {
        return Err(Error::invalid("/from/end", format!("the end, {end}, is before the start, {start}")));
    }
    let at = match from.start {
        ReplayStart::Timestamp(time) => Start::Timestamp(time),
        ReplayStart::Earliest | ReplayStart::Offset(_) => Start::Earliest,
    };
    let starts = verbs.offsets(caller, &from.topic, from.partition, at).await?;
    let at = match from.end {
        ReplayEnd::Timestamp(time) => Start::Timestamp(time),
        ReplayEnd::Latest | ReplayEnd::Offset(_) => Start::Latest,
    };
    let ends = verbs.offsets(caller, &from.topic, from.partition, at).await?;
    place.next.clear();
    place.ends.clear();
    for end in ends {
        // A partition that was added between the two questions is not part of it.
        let Some(start) = starts.iter().find(|start| start.partition == end.partition) else { continue };
        let (partition, first, until) = bounds(from, start, &end)?;
        place.next.insert(partition, first);
        place.ends.insert(partition, until);
    }
    Ok(())
}

fn bounds(from: &ReplaySource, start: &Position, end: &Position) -> Result<(PartitionIndex, Offset, Offset)> {
    let partition = start.partition;
    let within = |field: &str, offset: Offset| match offset {
        offset if offset < start.log_start => Err(Error::BelowLogStart { partition, offset, log_start: start.log_start }),
        offset if offset > end.end => {
            let reason = format!("offset {offset} is beyond the end of partition {partition}, which is {}", end.end);
            Err(Error::invalid(format!("/from/{field}"), reason))
        }
        offset => Ok(offset),
    };
    let first = match from.start {
        ReplayStart::Offset(offset) => within("start", offset)?,
        ReplayStart::Earliest | ReplayStart::Timestamp(_) => start.next,
    };
    let until = match from.end {
        ReplayEnd::Offset(offset) => within("end", offset)?,
        ReplayEnd::Latest | ReplayEnd::Timestamp(_) => end.next,
    };
    if until < first && matches!((from.start, from.end), (ReplayStart::Offset(_), ReplayEnd::Offset(_))) {
        return Err(Error::invalid("/from/end", format!("the end, {until}, is before the start, {first}")));
    }
    Ok((partition, first, until.max(first)))
}

//! Circles in a sparse graph (Tarjan's strongly connected components, without recursion).

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edge {
    /// The one wrote right before the other.
    Writes,
    /// The other read last what the one wrote.
    Reads,
    /// The one did not see what the other wrote next.
    Misses,
}

const NEW: usize = usize::MAX;

/// The nodes of each circle that has edges of these kinds only.
pub fn find(graph: &[Vec<(usize, Edge)>], kinds: &[Edge]) -> Vec<Vec<usize>> {
    let mut circles = Vec::new();
    let (mut number, mut low) = (vec![NEW; graph.len()], vec![0; graph.len()]);
    let (mut stack, mut is_on_stack, mut count) = (Vec::new(), vec![false; graph.len()], 0);
    for start in 0..graph.len() {
        if number[start] != NEW {
            continue;
        }
        // Nodes under way, each with the next of its edges to look at.
        let mut path = vec![(start, 0)];
        while let Some((node, edge)) = path.last_mut() {
            let node = *node;
            if *edge == 0 {
                (number[node], low[node]) = (count, count);
                count += 1;
                stack.push(node);
                is_on_stack[node] = true;
            }
            let next = graph[node][*edge..].iter().position(|(_, kind)| kinds.contains(kind)).map(|skip| *edge + skip);
            if let Some(next) = next {
                *edge = next + 1;
                let (other, _) = graph[node][next];
                if number[other] == NEW {
                    path.push((other, 0));
                } else if is_on_stack[other] {
                    low[node] = low[node].min(number[other]);
                }
                continue;
            }
            path.pop();
            if let Some((parent, _)) = path.last() {
                low[*parent] = low[*parent].min(low[node]);
            }
            if low[node] == number[node] {
                let from = stack.iter().rposition(|on_stack| *on_stack == node).unwrap_or(0);
                let circle = stack.split_off(from);
                circle.iter().for_each(|node| is_on_stack[*node] = false);
                if circle.len() > 1 {
                    circles.push(circle);
                }
            }
        }
    }
    circles
}

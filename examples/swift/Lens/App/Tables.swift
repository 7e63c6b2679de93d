#if canImport(SwiftUI)
import LensModel
import SwiftUI

/// Layers downwards, tokens across; the more certain, the more colour.
struct LensTableView: View {
    let table: LensTable?

    var body: some View {
        ScrollView([.horizontal, .vertical]) {
            if let table {
                Grid(horizontalSpacing: 2, verticalSpacing: 2) {
                    GridRow {
                        Text("layer").foregroundStyle(.secondary)
                        ForEach(table.tokens.indices, id: \.self) { Text(table.tokens[$0]).bold() }
                    }
                    ForEach(table.layers.indices.reversed(), id: \.self) { layer in
                        GridRow {
                            Text("\(layer)").foregroundStyle(.secondary)
                            ForEach(table.layers[layer].indices, id: \.self) { position in
                                cell(table.layers[layer][position])
                            }
                        }
                    }
                }
            } else {
                Text("Open a model to look inside.").foregroundStyle(.secondary)
            }
        }
        .frame(minWidth: 400)
    }

    private func cell(_ candidate: Candidate) -> some View {
        Text(candidate.token)
            .monospaced()
            .lineLimit(1)
            .frame(minWidth: 72)
            .background(Color.accentColor.opacity(Double(candidate.probability)))
            .help(Text(Double(candidate.probability), format: .percent))
    }
}

/// One square a head: queries downwards, keys across.
struct AttentionView: View {
    let maps: AttentionMaps?

    var body: some View {
        if let maps {
            ScrollView {
                LazyVGrid(columns: [GridItem(.adaptive(minimum: 96))]) {
                    ForEach(maps.heads.indices, id: \.self) { head in
                        VStack {
                            Canvas { context, size in draw(maps.heads[head], context, size) }
                                .aspectRatio(1, contentMode: .fit)
                                .border(.secondary)
                            Text("head \(head)").font(.caption)
                        }
                    }
                }
            }
        }
    }

    private func draw(_ rows: [[Float]], _ context: GraphicsContext, _ size: CGSize) {
        let side = size.width / CGFloat(max(rows.count, 1))
        for (query, row) in rows.enumerated() {
            for (key, weight) in row.enumerated() where weight > 0 {
                let square = CGRect(x: CGFloat(key) * side, y: CGFloat(query) * side, width: side, height: side)
                context.fill(Path(square), with: .color(.accentColor.opacity(Double(weight))))
            }
        }
    }
}
#endif
